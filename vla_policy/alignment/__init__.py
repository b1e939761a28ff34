"""Alignment of representations: optimal transport between token sets, alignment and uniformity on the sphere."""

from vla_policy.alignment.sinkhorn import Transport, sinkhorn
from vla_policy.alignment.transport import OptimalTransportAlignmentLoss
from vla_policy.alignment.uniformity import alignment, uniformity

__all__ = ["OptimalTransportAlignmentLoss", "Transport", "alignment", "sinkhorn", "uniformity"]
