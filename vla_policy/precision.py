"""Which arithmetic a device is fast in."""

from __future__ import annotations

import torch


def computes_bf16(device: torch.device) -> bool:
    """Returns whether the device has instructions for bfloat16.

    A CPU without them emulates it: a training step of the tabletop policy takes 10 times as long as in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(device: torch.device, bf16: bool | None = None) -> torch.autocast:
    """Returns the context that models are trained and run in.

    Args:
        device: of the model.
        bf16: True: bfloat16 autocast; False: float32; None: bfloat16 where `computes_bf16`.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16(device) if bf16 is None else bf16)
