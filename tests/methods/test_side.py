"""The side network: against the formula by hand, which states it reads, and that the backbone is left alone."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.methods import find_layers
from peftrec.methods.frozen import FrozenConfig
from peftrec.methods.side import SideConfig

TEXTS = ["small red wine", "large blue cheese. cheese", "goat"]


def side_encoder(path: Path, **settings: Any) -> TextEncoder:
    """A text encoder with a side network whose parameters are all random."""
    torch.manual_seed(0)
    method = SideConfig(**{"width": 8, **settings})
    encoder = TextEncoder(load_backbone(str(path)), EncoderConfig(max_tokens=16), method)
    for parameter in encoder.method.named_parameters().values():
        nn.init.normal_(parameter, std=0.5)
    return encoder.eval()


def gelu(numbers: torch.Tensor) -> torch.Tensor:
    return numbers * 0.5 * (1 + torch.erf(numbers / math.sqrt(2)))


@torch.no_grad()
def test_three_states_by_hand() -> None:
    class Config:
        num_hidden_layers, hidden_size = 2, 4

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = Config()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    torch.manual_seed(0)
    applied = SideConfig(width=3).apply(Model())
    parameters = applied.named_parameters()
    for parameter in parameters.values():
        nn.init.normal_(parameter)
    assert applied.pooled_states == (0, 1, 2)
    pooled = torch.randn(5, 3, 4) * torch.tensor([1.0, 10.0, 100.0])[None, :, None]
    states = (pooled - pooled.mean(-1, keepdim=True)) / (pooled.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    tower = states[:, 0]
    for state in range(3):
        own = {name: parameters[f"side.blocks.{state}.{name}"] for name in
               ("down.weight", "down.bias", "up.weight", "up.bias")}  # fmt: skip
        if state:
            gate = 1 / (1 + torch.exp(-parameters[f"side.blocks.{state}.gate"]))
            tower = gate * states[:, state] + (1 - gate) * tower
        inner = gelu(tower @ own["down.weight"].T + own["down.bias"])
        tower = tower + inner @ own["up.weight"].T + own["up.bias"]
    assert "side.blocks.0.gate" not in parameters
    expected = pooled[:, -1] + parameters["side.out_scale"] * tower
    torch.testing.assert_close(applied.combine(pooled), expected, rtol=1e-5, atol=1e-4)
    with applied.disabled():
        assert torch.equal(applied.combine(pooled), pooled[:, -1])


@pytest.mark.parametrize(
    ("every", "include_embeddings", "states"),
    [
        (1, True, (0, 1, 2, 3, 4)),
        (1, False, (1, 2, 3, 4)),
        (2, True, (0, 2, 4)),
        (2, False, (2, 4)),
        (3, False, (1, 4)),
        (4, True, (0, 4)),
        (4, False, (4,)),
    ],
)
def test_states_read_and_parameters_counted(
    every: int, include_embeddings: bool, states: tuple[int, ...], tiny_llama: Path
) -> None:
    encoder = side_encoder(tiny_llama, every=every, include_embeddings=include_embeddings, width=5)
    assert encoder.method.pooled_states == states
    assert encoder.method.first_layer == 4
    named = encoder.method.named_parameters()
    assert {int(name.split(".")[2]) for name in named if ".blocks." in name} == set(states)
    num_states = len(states)
    count = sum(parameter.numel() for parameter in named.values())
    assert count == num_states * (2 * 32 * 5 + 5 + 32) + (num_states - 1) + 32


def test_it_leaves_the_layers_to_the_backbone(tiny_bert: Path) -> None:
    encoder = side_encoder(tiny_bert, include_embeddings=False)
    # As many blocks as layers: still no list of layers.
    assert find_layers(encoder.model).name == "encoder.layer"
    texts = encoder.tokenize(TEXTS)
    place, valid = texts.gather(torch.arange(3))
    inputs = {"input_ids": texts.tokens_T[place], "attention_mask": valid.long()}
    plain = load_backbone(str(tiny_bert)).model
    assert torch.equal(encoder.model(**inputs).last_hidden_state, plain(**inputs).last_hidden_state)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_stored_states_give_the_same_vectors_and_gradients(family: str, backbones: dict[str, Path]) -> None:
    encoder = side_encoder(backbones[family])
    plain = encoder.tokenize(TEXTS)
    stored = encoder.store_trunk(plain)
    assert stored.pooled_NKH is not None
    assert not stored.pooled_NKH.requires_grad
    found = []
    for texts in (plain, stored):
        encoder.model.zero_grad(set_to_none=True)
        vectors = encoder(texts, torch.arange(3))
        vectors.square().sum().backward()
        found.append((vectors, {name: p.grad for name, p in encoder.method.named_parameters().items()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-4, atol=1e-4)
    assert not [
        name for name, p in encoder.model.named_parameters() if not name.startswith("side.") and p.grad is not None
    ]


def test_training_from_stored_states_never_runs_the_backbone(tiny_bert: Path) -> None:
    encoder = side_encoder(tiny_bert)
    stored = encoder.store_trunk(encoder.tokenize(TEXTS))
    expected = encoder(stored, torch.arange(3))

    def stop(*_: Any) -> None:
        raise AssertionError("the backbone ran")

    find_layers(encoder.model).layers[0].register_forward_pre_hook(stop)
    assert torch.equal(encoder(stored, torch.arange(3)), expected)


@torch.no_grad()
def test_a_copy_stands_alone(tiny_bert: Path) -> None:
    encoder = side_encoder(tiny_bert)
    texts = encoder.tokenize(TEXTS)
    tuned = encoder(texts, torch.arange(3))
    twin = copy.deepcopy(encoder)
    for parameter in twin.method.named_parameters().values():
        parameter.zero_()
    frozen = TextEncoder(load_backbone(str(tiny_bert)), EncoderConfig(max_tokens=16), FrozenConfig()).eval()
    torch.testing.assert_close(twin(texts, torch.arange(3)), frozen(texts, torch.arange(3)), rtol=0, atol=1e-6)
    assert torch.equal(encoder(texts, torch.arange(3)), tuned)


def test_dropout_acts_in_training_only(tiny_bert: Path) -> None:
    encoder = side_encoder(tiny_bert, dropout=0.5)
    texts, items = encoder.tokenize(TEXTS), torch.arange(3)
    with torch.no_grad():
        encoder.train()
        assert not torch.equal(encoder(texts, items), encoder(texts, items))
        encoder.eval()
        assert torch.equal(encoder(texts, items), encoder(texts, items))


def test_bad_settings_are_refused(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match="layers: a side network changes no layer"):
        SideConfig(layers=2)
    with pytest.raises(InputError, match=r"method\.every is 4; the backbone has 3 layers, so use at most 3"):
        side_encoder(tiny_bert, every=4)


@pytest.mark.parametrize("bits", [4, 8])
def test_on_a_quantised_backbone(bits: int, tiny_bert: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModel, BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4")
    model = AutoModel.from_pretrained(tiny_bert, quantization_config=settings, add_pooling_layer=False)
    applied = SideConfig(width=8).apply(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    states = model(input_ids=ids, output_hidden_states=True).hidden_states
    pooled = torch.stack([states[state].float().mean(1) for state in applied.pooled_states], dim=1)
    assert torch.equal(applied.combine(pooled), pooled[:, -1])
    assert {parameter.dtype for parameter in applied.named_parameters().values()} == {torch.float32}
    applied.combine(pooled).sum().backward()
    gradient = applied.named_parameters()["side.out_scale"].grad
    assert gradient is not None
    assert bool(gradient.any())
