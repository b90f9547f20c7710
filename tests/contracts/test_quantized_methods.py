"""What a method promises that declares to work on quantised weights: training, files, reloading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.methods import METHODS, AppliedMethod, read_adapter_tensors

pytest.importorskip("bitsandbytes")

QUANTIZED = ("int8", "nf4", "fp4")
FAMILIES = ("bert", "llama")
KINDS = [kind for kind in METHODS.kinds() if METHODS.load(kind).capabilities.quantized_base]
# Every kind of weights for the methods most used; the others see one.
CASES = [(kind, quantization) for kind in ("lora", "adalora") if kind in KINDS for quantization in QUANTIZED]
CASES += [(kind, "nf4") for kind in KINDS if kind not in ("lora", "adalora", "frozen")]
# Small enough for the tiny backbones; a kind that is not here takes its defaults.
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "adalora": {"initial_rank": 4, "target_rank": 2},
    "vera": {"rank": 8},
    "oft": {"block_size": 8},
    "prompt": {"num_tokens": 3},
    "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "prefix": {"num_tokens": 3},
    "adapter": {"reduction_factor": 4.0},
    "side": {"width": 8},
}
TEXTS = ["small red wine. wine", "large blue cheese", "a", "black rye bread, small, dry, sweet, oak. bread", "goat"]

Make = Callable[..., TextEncoder]


@pytest.fixture
def make(backbones: dict[str, Path]) -> Make:
    """Make a fresh text encoder with a method in a quantised backbone."""

    def make(kind: str, quantization: str, family: str = "bert", *, budget: int = 64, **settings: Any) -> TextEncoder:
        method = METHODS.load(kind)
        if not getattr(method.capabilities, "encoder" if family == "bert" else "decoder"):
            pytest.skip(f"{kind} does not work on {family}")
        torch.manual_seed(0)
        backbone = load_backbone(str(backbones.get(family, family)), None, quantization)
        config = EncoderConfig(max_tokens=16, token_budget=budget)
        return TextEncoder(backbone, config, method(**{**SETTINGS.get(kind, {}), **settings}))

    return make


def encode(encoder: TextEncoder) -> torch.Tensor:
    return encoder.eval().encode(encoder.tokenize(TEXTS))


def take_steps(encoder: TextEncoder, num_steps: int = 2) -> dict[str, float]:
    """Train towards random vectors; return the largest gradient that each parameter has had."""
    parameters = encoder.method.named_parameters()
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2)
    target = torch.randn(len(TEXTS), encoder.dim, generator=torch.Generator().manual_seed(1))
    tokens = encoder.tokenize(TEXTS)
    seen = dict.fromkeys(parameters, 0.0)
    encoder.train()
    encoder.method.begin_training(num_steps)
    for step in range(num_steps):
        (encoder(tokens, torch.arange(len(TEXTS))) - target).square().sum().backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                seen[name] = max(seen[name], float(parameter.grad.abs().max()))
        optimizer.step()
        encoder.method.after_optimizer_step(step)
        encoder.model.zero_grad(set_to_none=True)
    encoder.eval()
    return seen


def gradients(method: AppliedMethod) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters().items() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "quantization"), CASES)
def test_it_trains_without_touching_the_base_and_a_fresh_object_gives_the_same(
    kind: str, quantization: str, family: str, make: Make, tmp_path: Path
) -> None:
    encoder = make(kind, quantization, family)
    before = {name: tensor.clone() for name, tensor in encoder.backbone.model.state_dict().items()}
    own = {id(parameter) for parameter in encoder.method.named_parameters().values()}
    changed = {name for name, parameter in encoder.backbone.model.named_parameters() if id(parameter) in own}
    start = encode(encoder)
    if METHODS.load(kind).capabilities.identity_at_start:
        torch.testing.assert_close(start, encode(make("frozen", quantization, family)), rtol=0, atol=1e-6)
    seen = take_steps(encoder)
    # Adding the same number to all keys changes no softmax.
    assert not {name for name, value in seen.items() if value == 0.0 and "bias" not in name}
    assert float((encode(encoder) - start).abs().max()) > 1e-3
    after = encoder.backbone.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if name not in changed)
    state = {key: tensor.contiguous() for key, tensor in encoder.method.published_tensors().items()}
    save_file(state, tmp_path / "adapter_model.safetensors")
    fresh = make(kind, quantization, family)
    fresh.method.load_state_dict(read_adapter_tensors(tmp_path))
    torch.testing.assert_close(encode(fresh), encode(encoder), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("quantization", QUANTIZED)
@pytest.mark.parametrize("kind", ["lora", "frozen"])
def test_padding_and_chunks_change_no_vector(kind: str, quantization: str, family: str, make: Make) -> None:
    encoder = make(kind, quantization, family, budget=16)
    if kind != "frozen":
        take_steps(encoder)
    tokens = encoder.tokenize(TEXTS)
    small = encode(encoder)
    encoder.to("cpu")
    with torch.no_grad():
        together = encoder(tokens, torch.arange(len(TEXTS)))
        alone = torch.cat([encoder(tokens, torch.tensor([text])) for text in range(len(TEXTS))])
    with_gradients = encoder.train()(tokens, torch.arange(len(TEXTS))).detach()
    for other in (together, alone, with_gradients):
        torch.testing.assert_close(other, small, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("quantization", QUANTIZED)
def test_cached_trunk_is_exact(quantization: str, family: str, make: Make) -> None:
    encoder = make("lora", quantization, family, layers=1)
    take_steps(encoder)
    plain = encoder.tokenize(TEXTS)
    cached = encoder.store_trunk(plain)
    assert cached.trunk_TH is not None
    found = []
    for texts in (plain, cached):
        encoder.model.zero_grad(set_to_none=True)
        vectors = [encoder(texts, chunk) for chunk in texts.chunks(torch.arange(len(TEXTS)), 64)]
        torch.cat(vectors).square().sum().backward()
        found.append((torch.cat(vectors).detach(), gradients(encoder.method)))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_cached_gradients_are_those_of_one_batch(quantization: str, make: Make) -> None:
    found = []
    for keep_graphs in (True, False):
        encoder = make("lora", quantization, dropout=0.3).train()
        vectors = encoder.training_vectors(encoder.tokenize(TEXTS), torch.arange(5), keep_graphs=keep_graphs)
        vectors.vectors_NH.square().sum().backward()
        vectors.backward()
        found.append((vectors.vectors_NH.detach(), gradients(encoder.method)))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1]
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "quantization"), CASES[:4])
def test_the_real_minilm(kind: str, quantization: str, make: Make, minilm: str) -> None:
    encoder = make(kind, quantization, minilm, layers=2)
    start = encode(encoder)
    assert min(take_steps(encoder).values()) > 0
    state = {key: tensor.clone() for key, tensor in encoder.method.published_tensors().items()}
    fresh = make(kind, quantization, minilm, layers=2)
    fresh.method.load_state_dict(state)
    assert float((encode(encoder) - start).abs().max()) > 1e-3
    torch.testing.assert_close(encode(fresh), encode(encoder), rtol=0, atol=1e-6)
