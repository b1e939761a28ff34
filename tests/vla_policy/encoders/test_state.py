from __future__ import annotations

import pytest
import torch

from vla_policy.encoders import StateEncoder


@pytest.mark.usefixtures("unchecked")
def test_a_state_of_another_shape_is_named() -> None:
    encoder = StateEncoder(3, 8)
    assert encoder(torch.zeros(2, 1, 3)).shape == (2, 1, 8)
    for shape in ((2, 3), (2, 1, 4)):
        with pytest.raises(ValueError, match=r"state vectors must be \(batch, vectors, 3\); got "):
            encoder(torch.zeros(shape))
