from __future__ import annotations

import pytest
import torch

from vla_policy.encoders import StateEncoder


@pytest.mark.usefixtures("unchecked")
def test_another_shape_or_dtype_is_named() -> None:
    encoder = StateEncoder(3, 8)
    assert encoder(torch.zeros(2, 1, 3)).shape == (2, 1, 8)
    for vectors in (torch.zeros(2, 3), torch.zeros(2, 1, 4), torch.zeros(0, 1, 3), torch.zeros(2, 1, 3).long()):
        with pytest.raises(
            ValueError, match=r"state vectors must be float \(batch, vectors, 3\), batch at least 1; got "
        ):
            encoder(vectors)
