"""Tokens, chunks, pooling, prefixes, whitening, and the head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftrec.config import InputError
from peftrec.encoders import (
    CatalogueText,
    EncoderConfig,
    ItemEncoder,
    ItemTexts,
    TextEncoder,
    Whitening,
    load_backbone,
    tokenize_texts,
)
from peftrec.methods import METHODS

TEXTS = ["small red wine", "large blue cheese. aged, hard, goat", "tea"]
FROZEN = METHODS.load("frozen")()


@pytest.fixture(scope="module")
def encoders(backbones: dict[str, Path]) -> Callable[..., TextEncoder]:
    loaded = {family: load_backbone(str(path)) for family, path in backbones.items()}
    return lambda family="bert", **config: TextEncoder(loaded[family], EncoderConfig(**config), FROZEN)


def test_tokens_are_cut_with_the_special_ones_kept(encoders: Callable[..., TextEncoder]) -> None:
    tokenizer = encoders().backbone.tokenizer
    full = tokenize_texts(tokenizer, TEXTS, max_tokens=64)
    assert full.num_cut == 0
    assert full.lengths.tolist() == [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    cut = tokenize_texts(tokenizer, TEXTS, max_tokens=5)
    assert cut.num_cut == 1
    assert cut.lengths.tolist() == [5, 5, 3]
    for row in range(3):
        tokens = cut.tokens_T[cut.offsets[row] : cut.offsets[row + 1]].tolist()
        assert (tokens[0], tokens[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_a_text_without_tokens_is_named(encoders: Callable[..., TextEncoder]) -> None:
    with pytest.raises(InputError, match=r"text 1 \(''\) gives no token"):
        encoders("llama").tokenize(["a", ""])


def test_a_prefix_stands_before_every_text(encoders: Callable[..., TextEncoder]) -> None:
    with_prefix, plain = encoders(prefix="tea: "), encoders()
    found = with_prefix.encode(with_prefix.tokenize(TEXTS))
    torch.testing.assert_close(found, plain.encode(plain.tokenize([f"tea: {text}" for text in TEXTS])))
    assert float((found - plain.encode(plain.tokenize(TEXTS))).abs().max()) > 1e-3


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_by_hand(family: str, pooling: str, encoders: Callable[..., TextEncoder]) -> None:
    encoder = encoders(family, pooling=pooling)
    found = encoder.encode(encoder.tokenize(TEXTS))
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            inputs = encoder.backbone.tokenizer(text, return_tensors="pt")
            states = encoder.model(input_ids=inputs["input_ids"]).last_hidden_state[0]
        expected = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-5)


def test_pooling_goes_by_the_kind_of_backbone(encoders: Callable[..., TextEncoder]) -> None:
    assert (encoders("bert").pooling, encoders("llama").pooling) == ("mean", "last")


@given(
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=30), budget=st.integers(16, 80), seed=st.integers(0, 9)
)
def test_chunks_hold_each_text_once_within_the_budget(lengths: list[int], budget: int, seed: int) -> None:
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    texts = ItemTexts(torch.zeros(int(offsets[-1]), dtype=torch.int64), offsets, 0)
    items = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))[: max(1, len(lengths) // 2)]
    chunks = texts.chunks(items, budget)
    assert sorted(torch.cat(chunks).tolist()) == list(range(len(items)))
    for chunk in chunks:
        assert len(chunk) * int(texts.lengths[items[chunk]].max()) <= budget


def test_a_text_longer_than_the_budget_is_an_error() -> None:
    texts = ItemTexts(torch.zeros(20, dtype=torch.int64), torch.tensor([0, 20]), 0)
    with pytest.raises(InputError, match=r"encoder\.token_budget is 16, but one text has 20 tokens"):
        texts.chunks(torch.tensor([0]), 16)


def test_vectors_are_computed_once_until_weights_change(encoders: Callable[..., TextEncoder]) -> None:
    catalogue = CatalogueText(encoders(), TEXTS)
    first = catalogue.vectors()
    assert catalogue.vectors() is first
    assert not first.requires_grad
    catalogue.weights_changed()
    again = catalogue.vectors()
    assert again is not first
    assert torch.equal(again, first)


def test_vectors_follow_the_encoder_to_another_device(encoders: Callable[..., TextEncoder]) -> None:
    catalogue = CatalogueText(encoders(), TEXTS)
    shape = catalogue.vectors().shape
    catalogue.encoder.to("meta")
    assert (catalogue.vectors().device.type, catalogue.vectors().shape) == ("meta", shape)


def test_encoding_in_training_draws_no_random_number(backbones: dict[str, Path]) -> None:
    encoder = TextEncoder(load_backbone(str(backbones["bert"])), EncoderConfig(), METHODS.load("lora")(dropout=0.5))
    encoder.train()
    state = torch.get_rng_state()
    encoder.encode(encoder.tokenize(TEXTS))
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training


def test_whitening() -> None:
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 7)) + 5
    whole = Whitening.fit(vectors, power=-0.5, ridge=1e-9)
    found = whole(vectors)
    torch.testing.assert_close(found.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.T @ found / 200, torch.eye(6), rtol=0, atol=1e-4)
    half = Whitening.fit(vectors, power=-0.25, ridge=1e-3)
    centred = (vectors - vectors.mean(0)).double()
    values, axes = torch.linalg.eigh(centred.T @ centred / 200 + 1e-3 * torch.eye(6).double())
    torch.testing.assert_close(half.matrix, (axes @ torch.diag(values**-0.25) @ axes.T).float(), rtol=1e-4, atol=1e-5)
    # Cut to fewer axes, inner products are nearly kept.
    full = Whitening.fit(vectors, dim=6)(vectors)
    torch.testing.assert_close(full @ full.T, half(vectors) @ half(vectors).T, rtol=1e-3, atol=1e-3)
    few = Whitening.fit(vectors, dim=2)(vectors)
    assert few.shape == (200, 2)
    assert float(few.var(0)[0]) > float(few.var(0)[1])
    with pytest.raises(InputError, match=r"encoder\.embedding_dim is 7, but text vectors have 6"):
        Whitening.fit(vectors, dim=7)
    with pytest.raises(InputError, match="NaN or infinite"):
        Whitening.fit(torch.full((3, 2), torch.nan))


def make_head(**config: Any) -> ItemEncoder:
    torch.manual_seed(0)
    has_id = torch.tensor([True, True, False, True])
    encoder = ItemEncoder(EncoderConfig(**config), 6, has_id).eval()
    encoder.fit_whitening(torch.randn(40, 6))
    return encoder


def test_the_residual_head_starts_from_unit_vectors() -> None:
    head, texts = make_head(inputs="text"), torch.randn(4, 6)
    with torch.no_grad():
        whitened = (texts - head.whitening_mean) @ head.whitening_matrix
        torch.testing.assert_close(head(texts, None), torch.nn.functional.normalize(whitened, dim=-1))


def test_a_narrow_head_starts_from_the_main_axes_and_learns_from_all() -> None:
    head, texts = make_head(inputs="text", embedding_dim=4), torch.randn(4, 6)
    with torch.no_grad():
        unit = torch.nn.functional.normalize((texts - head.whitening_mean) @ head.whitening_matrix, dim=-1)
        torch.testing.assert_close(head(texts, None), unit[:, :4])
        torch.nn.init.normal_(head.residual[-2].weight)
        # Two texts that differ in the last axis alone are told apart by the MLP.
        one, other = unit[:1].clone(), unit[:1].clone()
        other[0, -1] *= -1
        assert not torch.allclose(head.residual(one), head.residual(other))


def test_whitened_axes_stand_in_order_of_their_variance() -> None:
    """A narrow head keeps the first axes, so these must be the ones that tell items apart."""
    head = make_head(inputs="text", embedding_dim=2)
    texts = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        6, 6, generator=torch.Generator().manual_seed(1)
    )
    head.fit_whitening(texts)
    whitened = (texts - head.whitening_mean) @ head.whitening_matrix
    covariance = whitened.T @ whitened / len(texts)
    variances = covariance.diagonal()
    torch.testing.assert_close(covariance, torch.diag(variances), rtol=0, atol=1e-3 * float(variances.max()))
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)


def test_cold_items_rest_on_their_text() -> None:
    head, texts = make_head(inputs="text+ids", id_std=1.0, item_bias=True), torch.randn(5, 6)
    torch.nn.init.ones_(head.bias)
    items = torch.tensor([0, 1, 2, 3, -1])
    with torch.no_grad():
        found, text_alone = head(texts, items), head(texts, None)
    moved = (found - text_alone).abs().amax(1)
    assert (moved > 1e-3).tolist() == [True, True, False, True, False]
    torch.testing.assert_close(found[0] - text_alone[0], head.id_vectors[0])
    bias = head.candidate_bias(items)
    assert bias is not None
    assert bias.tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]


def test_id_dropout_acts_in_training_only() -> None:
    head = make_head(inputs="ids", embedding_dim=6, id_dropout=0.5, id_std=1.0)
    items = torch.zeros(1000, dtype=torch.int64)
    with torch.no_grad():
        assert bool(head(None, items).any(1).all())
        head.train()
        share = head(None, items).any(1).float().mean()
    assert float(share) == pytest.approx(0.5, abs=0.06)


def test_ids_alone_know_no_new_items() -> None:
    with pytest.raises(InputError, match="knows ids only"):
        make_head(inputs="ids", embedding_dim=6)(None, None)
