from __future__ import annotations

import pytest


@pytest.mark.parametrize(("vocab_size", "bits"), [(2, 1), (1000, 10), (1024, 10), (1025, 11)])
def test_an_id_needs_the_bits_of_the_largest(vocab_size: int, bits: int) -> None:
    from image_tokenizer import bits_per_id  # pyright: ignore[reportMissingImports]

    assert bits_per_id(vocab_size) == bits
