"""Training in bfloat16: what is rounded, what is not, and that every method learns the same from it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import CatalogueText, EncoderConfig, TextEncoder, load_backbone
from peftrec.encoders.gradient_cache import TrainingVectors
from peftrec.methods import METHODS

TEXTS = ["small red wine. wine", "large blue cheese", "green tea", "a", "iced mint herb tea - large. tea", "goat"]
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "adalora": {"initial_rank": 4, "target_rank": 2},
    "adapter": {"reduction_factor": 4.0},
    "side": {"width": 8},
    "prompt": {"num_tokens": 3},
    "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "prefix": {"num_tokens": 3},
    "vera": {"rank": 8},
    "oft": {"block_size": 8},
    "peft": {"peft_type": "LOHA", "settings": {"r": 2, "alpha": 4}},
}
FAMILIES = ("bert", "llama")
TRAINS = [kind for kind in METHODS.kinds() if kind != "frozen"]
# They train weights of the backbone itself, or copies of them.
IN_BACKBONE = ("bitfit", "full", "layernorm")


@pytest.fixture(scope="module")
def make(backbones: dict[str, Path]) -> Callable[..., TextEncoder]:
    """Make a fresh text encoder whose method has moved away from its start, with the same numbers each time."""
    loaded: dict[tuple[str, str], Any] = {}

    def make(kind: str, family: str, dtype: Any = "float32", **settings: Any) -> TextEncoder:
        if (kind, family) == ("bitfit", "llama"):
            pytest.skip("no biases")
        key = (family, dtype)
        if key not in loaded:
            loaded[key] = load_backbone(str(backbones[family]), dtype=dtype)
        torch.manual_seed(0)
        config = EncoderConfig(max_tokens=16, token_budget=32, dtype=dtype)
        method = METHODS.load(kind)(**{**SETTINGS.get(kind, {}), **settings})
        encoder = TextEncoder(copy.deepcopy(loaded[key]), config, method)
        with torch.no_grad():
            for parameter in encoder.trained_parameters():
                parameter += 0.05 * torch.randn(parameter.shape)
        return encoder

    return make


def gradients(encoder: TextEncoder, *, graph_bytes: int = 2**40, stored: bool = False) -> list[torch.Tensor]:
    """The gradients of a loss on the vectors of all texts."""
    texts = encoder.tokenize(TEXTS)
    if stored:
        texts = encoder.store_trunk(texts)
    encoder.train()
    found = training_vectors(encoder, texts, graph_bytes=graph_bytes)
    target = torch.randn(found.vectors_NH.shape, generator=torch.Generator().manual_seed(1))
    (found.vectors_NH - target).square().sum().backward()  # type: ignore[no-untyped-call]
    found.backward()
    for parameter in encoder.trained_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is None or parameter.grad.dtype == torch.float32
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in encoder.trained_parameters()]


def training_vectors(encoder: TextEncoder, texts: Any, *, graph_bytes: int) -> TrainingVectors:
    found = encoder.training_vectors(texts, torch.arange(len(texts)), graph_bytes=graph_bytes)
    assert found.vectors_NH.dtype == torch.float32
    return found


def difference(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    one, other = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (found, expected))
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", TRAINS)
def test_gradients_in_bfloat16_are_close_and_float32(kind: str, family: str, make: Callable[..., TextEncoder]) -> None:
    expected = gradients(make(kind, family))
    encoder = make(kind, family)
    encoder.training_dtype = torch.bfloat16
    found = gradients(encoder)
    assert 0 < difference(found, expected) < 0.05
    again = make(kind, family)
    again.training_dtype = torch.bfloat16
    # The second pass of gradient caching rounds as the first one does.
    assert all(torch.equal(one, other) for one, other in zip(gradients(again, graph_bytes=0), found, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_stored_states_enter_in_full_precision(family: str, make: Callable[..., TextEncoder]) -> None:
    expected = gradients(make("lora", family, layers=1))
    for stored in (False, True):
        encoder = make("lora", family, layers=1)
        encoder.training_dtype = torch.bfloat16
        assert 0 < difference(gradients(encoder, stored=stored), expected) < 0.05
    states = encoder.store_trunk(encoder.tokenize(TEXTS)).trunk_TH
    assert states is not None
    assert states.dtype == torch.float32


def test_the_second_pass_gives_the_vectors_of_the_first(make: Callable[..., TextEncoder]) -> None:
    encoder = make("lora", "bert", dropout=0.3)
    encoder.training_dtype = torch.bfloat16
    texts = encoder.tokenize(TEXTS)
    encoder.train()
    given: list[torch.Tensor] = []
    encoder.register_forward_hook(lambda module, args, output: given.append(output.detach()))
    found = training_vectors(encoder, texts, graph_bytes=0)
    first, given[:] = list(given), []
    found.vectors_NH.square().sum().backward()  # type: ignore[no-untyped-call]
    found.backward()
    assert len(first) == len(given) > 1
    assert all(torch.equal(one, other) for one, other in zip(first, given, strict=True))


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_vectors_that_are_kept_are_not_rounded(pooling: Any, backbones: dict[str, Path]) -> None:
    config = EncoderConfig(max_tokens=16, pooling=pooling)
    encoder = TextEncoder(load_backbone(str(backbones["bert"])), config, METHODS.load("lora")(rank=2))
    catalogue = CatalogueText(encoder, TEXTS)
    expected = catalogue.vectors()
    encoder.training_dtype = torch.bfloat16
    encoder.train()
    # Whoever asks first, and in whichever mode.
    for surroundings in (torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False)):
        catalogue.weights_changed()
        with surroundings:
            assert torch.equal(catalogue.vectors(), expected)
    with torch.no_grad():
        in_training = encoder(catalogue.tokenized, torch.arange(len(TEXTS)))
    gap = float((in_training - expected).norm() / expected.norm())
    assert in_training.dtype == torch.float32
    assert 1e-4 < gap < 0.02


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", METHODS.kinds())
def test_a_backbone_in_bfloat16_trains_float32(kind: str, family: str, make: Callable[..., TextEncoder]) -> None:
    if kind in IN_BACKBONE:
        with pytest.raises(InputError, match=f"'{kind}' trains weights of the backbone itself"):
            make(kind, family, "bfloat16")
        return
    expected = make(kind, family)
    encoder = make(kind, family, "bfloat16")
    # Random numbers of another type are other numbers.
    encoder.method.load_state_dict(expected.method.state_dict())
    assert encoder.backbone.dtype == next(iter(encoder.backbone.model.parameters())).dtype == torch.bfloat16
    vectors = [one.encode(one.tokenize(TEXTS)) for one in (encoder, expected)]
    assert vectors[0].dtype == torch.float32
    assert float((vectors[0] - vectors[1]).norm() / vectors[1].norm()) < 0.03
    if kind == "frozen":
        return
    for autocast in (None, torch.bfloat16):
        for one in (encoder, expected):
            one.training_dtype = autocast
            one.model.zero_grad(set_to_none=True)
        assert difference(gradients(encoder), gradients(expected)) < 0.08


@pytest.mark.parametrize("family", FAMILIES)
def test_stored_states_of_a_backbone_in_bfloat16(family: str, make: Callable[..., TextEncoder]) -> None:
    found = [gradients(make("lora", family, "bfloat16", layers=1), stored=stored) for stored in (False, True)]
    assert difference(*found) < 1e-6


def test_a_backbone_is_cast_once_for_all(backbones: dict[str, Path]) -> None:
    path = str(backbones["llama"])
    rounded, full = load_backbone(path, dtype="bfloat16"), load_backbone(path)
    assert rounded.fingerprint != full.fingerprint
    for one, other in zip(rounded.model.parameters(), full.model.parameters(), strict=True):
        assert torch.equal(one, other.bfloat16())
    with pytest.raises(ValueError, match="dtype: bfloat16 and quantization: nf4 are two ways"):
        EncoderConfig(dtype="bfloat16", quantization="nf4")
