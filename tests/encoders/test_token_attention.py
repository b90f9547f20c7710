"""Attention pooling: by hand, the mean at the start, whatever the padding, and with gradients from every chunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError, RecipeError
from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.encoders.token_attention import TokenAttention
from peftrec.methods import METHODS

TEXTS = ["small red wine", "large blue cheese. aged, hard, goat", "tea", "iced green tea", "rye"]
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "lora": {"rank": 2},
    "layernorm": {"layers": 1},
    "prompt": {},
}


def make(path: Path, kind: str = "frozen", *, moved: bool = True, **config: Any) -> TextEncoder:
    torch.manual_seed(0)
    method = METHODS.load(kind)(**METHOD_SETTINGS[kind])
    settings = {"pooling": "attention", "max_tokens": 16, "attention_dim": 8, **config}
    encoder = TextEncoder(load_backbone(str(path)), EncoderConfig(**settings), method).eval()
    if moved:
        torch.manual_seed(1)
        for parameter in encoder.pooling_parameters():
            torch.nn.init.normal_(parameter)
    return encoder


@torch.no_grad()
def test_by_hand() -> None:
    torch.manual_seed(0)
    attention = TokenAttention(3, 2)
    torch.nn.init.normal_(attention.query)
    states = torch.randn(2, 4, 3)
    valid = torch.tensor([[True, True, True, False], [True, False, False, False]])
    expected = []
    for row in range(2):
        own = states[row][valid[row]]
        scores = torch.stack([attention.query @ torch.tanh(attention.project(state)) for state in own])
        weights = scores.exp() / scores.exp().sum()
        expected.append(sum(weight * state for weight, state in zip(weights, own, strict=True)))
    states[~valid] = 1e4
    torch.testing.assert_close(attention(states, valid), torch.stack(expected))


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("kind", sorted(METHOD_SETTINGS))
def test_it_starts_as_the_mean(family: str, kind: str, backbones: dict[str, Path]) -> None:
    attention, mean = (make(backbones[family], kind, moved=False, pooling=name) for name in ("attention", "mean"))
    texts = mean.tokenize(TEXTS)
    torch.testing.assert_close(attention.encode(texts), mean.encode(texts), rtol=0, atol=1e-5)
    assert not mean.pooling_parameters()


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("kind", sorted(METHOD_SETTINGS))
def test_neither_padding_nor_stored_states_change_a_vector(family: str, kind: str, backbones: dict[str, Path]) -> None:
    encoder = make(backbones[family], kind)
    texts = encoder.tokenize(TEXTS)
    together = encoder.encode(texts)
    for row in range(len(TEXTS)):
        torch.testing.assert_close(encoder.encode(texts, torch.tensor([row]))[0], together[row], rtol=0, atol=1e-5)
    stored = encoder.store_trunk(texts)
    assert (stored.trunk_TH is not None) == (kind in ("frozen", "layernorm"))
    torch.testing.assert_close(encoder.encode(stored), together, rtol=0, atol=1e-5)
    assert float((together - make(backbones[family], kind, moved=False).encode(texts)).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", ["frozen", "lora", "layernorm"])
@pytest.mark.parametrize("graph_bytes", [2**40, 0])
def test_gradients_of_chunks_are_those_of_one_batch(kind: str, graph_bytes: int, backbones: dict[str, Path]) -> None:
    whole, chunked = make(backbones["bert"], kind), make(backbones["bert"], kind, token_budget=16)
    weights = torch.randn(len(TEXTS), whole.dim, generator=torch.Generator().manual_seed(2))
    (whole(whole.tokenize(TEXTS), torch.arange(len(TEXTS))) * weights).sum().backward()
    texts = chunked.store_trunk(chunked.tokenize(TEXTS))
    assert len(texts.chunks(torch.arange(len(TEXTS)), 16)) > 1
    vectors = chunked.training_vectors(texts, torch.arange(len(TEXTS)), graph_bytes=graph_bytes)
    (vectors.vectors_NH * weights).sum().backward()
    vectors.backward()
    found, expected = chunked.trained_parameters(), whole.trained_parameters()
    assert len(found) == len(expected) >= 3
    for one, other in zip(found, expected, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)
    assert all(bool(parameter.grad.any()) for parameter in chunked.pooling_parameters() if parameter.grad is not None)


def test_methods_on_pooled_states_are_refused(tiny_bert: Path, make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"encoder\.pooling: attention learns from .*'side' reads pooled ones"):
        TextEncoder(load_backbone(str(tiny_bert)), EncoderConfig(pooling="attention"), METHODS.load("side")())
    with pytest.raises(RecipeError, match=r"encoder\.pooling: attention .* but method\.kind 'side' reads pooled ones"):
        make_recipe("encoder.pooling=attention", "method.kind=side")
    with pytest.raises(RecipeError, match=r"but profile\.method\.kind 'side' reads pooled ones"):
        make_recipe("encoder.pooling=attention", "profile={method: {kind: side}}")
    with pytest.raises(RecipeError, match=r"2 of 2 epochs leaves none in which the language model trains, or its pool"):
        make_recipe("encoder.pooling=attention", "method.kind=frozen", "training.warmup_frozen_epochs=2")
