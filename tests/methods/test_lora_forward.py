"""The quick forward pass of LoRA against peft's own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.methods import lora_forward
from peftrec.methods.adalora import AdaLoraConfig
from peftrec.methods.dora_products import DoraWeights, dora_products
from peftrec.methods.lora import LoraConfig
from peftrec.methods.lora_forward import LoraForward, merged_weights, speed_up_lora
from peftrec.methods.method import MethodConfig

TEXTS = ("small red wine. wine", "large blue cheese", "green tea", "rye bread, large. bread", "goat")


def assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    # Weights of the tiny models are wide, so that rounding grows from layer to layer.
    assert (found - wanted).norm() <= 2e-5 * wanted.norm()


KINDS: dict[str, MethodConfig] = {
    "lora": LoraConfig(rank=4),
    "dora": LoraConfig(rank=4, dora=True),
    "adalora": AdaLoraConfig(initial_rank=4, target_rank=2),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def encoder(folder: Path, kind: str = "lora", **settings: Any) -> TextEncoder:
    torch.manual_seed(0)
    config = dataclasses.replace(KINDS[kind], **settings)
    made = TextEncoder(load_backbone(str(folder)), EncoderConfig(max_tokens=16, token_budget=64), config)
    for name, parameter in made.method.named_parameters().items():
        if "lora_B" in name or "lora_E" in name:
            torch.nn.init.normal_(parameter, std=0.2)
        elif "lora_magnitude" in name:
            torch.nn.init.uniform_(parameter, -0.5, 1.5)
    return made


def quick_layers(made: TextEncoder) -> Iterator[LoraForward]:
    for module in made.model.modules():
        if isinstance(getattr(module, "forward", None), LoraForward):
            yield module.forward


def make_plain(made: TextEncoder) -> None:
    for quick in list(quick_layers(made)):
        quick.layer.forward = quick.plain


def vectors_and_gradients(made: TextEncoder) -> tuple[torch.Tensor, list[torch.Tensor]]:
    texts = made.tokenize(TEXTS)
    made.train()
    vectors = made(texts, torch.arange(len(TEXTS)))
    # Not the squares: behind a last norm their sum hardly depends on anything, and its gradient is rounding.
    (vectors * torch.linspace(-1, 1, vectors.shape[1])).sum().backward()
    gradients = [p.grad.clone() for p in made.trained_parameters()]
    made.eval()
    return made.encode(texts), gradients


def counted(monkeypatch: pytest.MonkeyPatch, products: str) -> list[int]:
    """Return a list that gets the number of layers of every call."""
    calls: list[int] = []
    real = getattr(lora_forward, products)
    monkeypatch.setattr(lora_forward, products, lambda x, layers: calls.append(len(layers)) or real(x, layers))
    return calls


VARIANTS = [
    *((kind, variant) for kind in KINDS for variant in ("plain", "top 2 layers")),
    *((kind, variant) for kind in ("lora", "dora") for variant in ("rank_stabilized", "ranks of single modules")),
]


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize(("kind", "variant"), VARIANTS)
def test_equals_peft(
    backbones: dict[str, Path], family: str, kind: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = "query" if family == "bert" else "q_proj"
    settings: dict[str, Any] = {
        "plain": {},
        "rank_stabilized": {"rank_stabilized": True},
        "top 2 layers": {"layers": 2},
        "ranks of single modules": {"rank_pattern": {ending: 2}, "alpha_pattern": {ending: 3.0}},
    }[variant]
    quick, plain = (encoder(backbones[family], kind, **settings) for _ in range(2))
    make_plain(plain)
    wanted, wanted_gradients = vectors_and_gradients(plain)
    calls = counted(monkeypatch, "dora_products" if kind == "dora" else "lora_products")
    vectors, gradients = vectors_and_gradients(quick)
    assert sum(calls) >= len(list(quick_layers(quick))) > 0, "layers gave way to peft"
    assert_near(vectors, wanted)
    for found, gradient in zip(gradients, wanted_gradients, strict=True):
        assert_near(found, gradient)


@every_kind
def test_merged_weights_are_those_of_now_and_are_let_go(tiny_bert: Path, kind: str) -> None:
    quick = encoder(tiny_bert, kind)
    texts = quick.tokenize(TEXTS)
    everything = torch.arange(len(TEXTS))
    found = []
    for _ in range(2):
        with torch.no_grad(), quick.method.unchanging():
            assert all(layer._merged_OI is not None for layer in quick_layers(quick))
            found.append(quick(texts, everything))
        assert all(layer._merged_OI is None for layer in quick_layers(quick))
        with torch.no_grad():
            assert_near(found[-1], quick(texts, everything))
        # A fused optimiser moves weights without counting it as a change.
        optimizer = torch.optim.AdamW(quick.trained_parameters(), lr=0.1, fused=True)
        quick(texts, everything).square().sum().backward()
        optimizer.step()
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@every_kind
def test_gradients_pass_merged_weights_by(tiny_bert: Path, kind: str) -> None:
    quick = encoder(tiny_bert, kind)
    texts = quick.tokenize(TEXTS)
    with quick.method.unchanging():
        quick(texts, torch.arange(2)).sum().backward()
    assert all(parameter.grad is not None for parameter in quick.trained_parameters())


def test_large_catalogues_are_encoded_with_merged_weights(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = encoder(tiny_bert)
    texts = quick.tokenize(TEXTS * 40)
    wanted = quick.encode(texts, torch.arange(len(TEXTS))).repeat(40, 1)
    merges = []
    monkeypatch.setattr(LoraForward, "merge", lambda layer: merges.append(layer))
    quick.encode(texts)
    assert len(merges) == len(list(quick_layers(quick)))
    monkeypatch.undo()
    assert_near(quick.encode(texts), wanted)


def test_large_models_hold_no_merged_weights(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_forward, "_MERGED_BYTES", 1000)
    quick = encoder(tiny_bert)
    with quick.method.unchanging():
        assert all(layer._merged_OI is None for layer in quick_layers(quick))


def never(*_: Any) -> None:
    raise AssertionError("the quick pass was taken")


@every_kind
@pytest.mark.parametrize("dropout", [0.5, 0.0], ids=["dropout", "autocast"])
def test_gives_way_to_peft(tiny_bert: Path, kind: str, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout and low precision compute something else; the quick pass must not be taken."""
    made = encoder(tiny_bert, kind, dropout=dropout)
    texts = made.tokenize(TEXTS)
    for name in ("lora_products", "dora_products"):
        monkeypatch.setattr(lora_forward, name, never)
    if dropout == 0.0:
        made.training_dtype = torch.bfloat16
    made.train()
    made(texts, torch.arange(len(TEXTS))).sum().backward()


def test_disabled_is_the_base_model(tiny_bert: Path) -> None:
    made = encoder(tiny_bert)
    texts = made.tokenize(TEXTS)
    with made.method.disabled():
        found = made.encode(texts)
    with torch.no_grad():
        for name, parameter in made.method.named_parameters().items():
            if "lora_B" in name:
                parameter.zero_()
    assert_near(found, made.encode(texts))


def test_a_copied_model_has_layers_of_its_own(tiny_bert: Path) -> None:
    """A copy must not compute with the tensors of the one that it was made from."""
    made = encoder(tiny_bert)
    twin = copy.deepcopy(made)
    texts = made.tokenize(TEXTS)
    before = twin.encode(texts)
    with torch.no_grad():
        for parameter in made.trained_parameters():
            parameter.mul_(3.0)
    torch.testing.assert_close(before, twin.encode(texts), rtol=0, atol=0)


class Attention(torch.nn.Module):
    """Three projections, of which some read another input than the first."""

    def __init__(self, others: tuple[str, ...]) -> None:
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(6, width) for width in (4, 8, 8))
        self.others = others

    def forward(self, x: torch.Tensor, other: torch.Tensor, *, stop: bool = False) -> list[torch.Tensor]:
        found = [self.query(x)]
        if stop:
            raise KeyboardInterrupt
        return found + [getattr(self, name)(other if name in self.others else x) for name in ("key", "value")]


def attention(*others: str, **settings: Any) -> tuple[Any, Any]:
    import peft

    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["query", "key", "value"], init_lora_weights=False, **settings)
    model = peft.get_peft_model(Attention(others), config)
    plain = copy.deepcopy(model)
    speed_up_lora(model)
    return model, plain


def outcome(model: Any, *inputs: torch.Tensor) -> list[torch.Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    results = model(*leaves)
    sum((result.square() * place).sum() for place, result in enumerate(results, start=1)).backward()
    gradients = [p.grad.clone() for p in [*leaves, *model.parameters()] if p.grad is not None]
    model.zero_grad()
    return [*results, *gradients]


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("others", [(), ("key", "value"), ("value",)])
def test_siblings_equal_layers_alone_whatever_they_read(others: tuple[str, ...], dora: bool) -> None:
    model, plain = attention(*others, use_dora=dora)
    for seed in range(2):
        torch.manual_seed(seed)
        inputs = torch.randn(3, 5, 6), torch.randn(3, 5, 6)
        for found, wanted in zip(outcome(model, *inputs), outcome(plain, *inputs), strict=True):
            assert_near(found, wanted)


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize(("others", "calls"), [((), [3]), (("value",), [1, 1, 1])])
def test_siblings_compute_at_once_where_they_read_one_input(
    others: tuple[str, ...], calls: list[int], dora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = attention(*others, use_dora=dora)
    inputs = torch.randn(3, 6), torch.randn(3, 6)
    model(*inputs)
    found = counted(monkeypatch, "dora_products" if dora else "lora_products")
    model(*inputs)
    assert found == calls


def test_siblings_of_a_layer_that_gives_way_compute_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = attention()
    model.base_model.model.value.lora_dropout["default"] = torch.nn.Dropout(0.5)
    x = torch.randn(3, 6)
    found = counted(monkeypatch, "lora_products")
    model.train()(x, x)
    assert found == [1, 1]


def test_other_variants_run_by_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    """An activated LoRA changes nothing before the tokens that call it, of which there are none here."""
    model, _ = attention(alora_invocation_tokens=[1])
    for name in ("lora_products", "dora_products"):
        monkeypatch.setattr(lora_forward, name, never)
    x = torch.randn(1, 3, 6)
    (found, *_), layer = model.base_model.model(x, x), model.base_model.model.query.base_layer
    torch.testing.assert_close(found, layer(x))
    layers = [module.forward for module in model.modules() if isinstance(module.forward, LoraForward)]
    with merged_weights(layers):
        assert [layer._merged_OI for layer in layers] == [None] * 3


def test_gradients_of_dora_are_those_of_its_equation() -> None:
    """Norms are constants of it."""
    torch.manual_seed(0)
    shapes = {"x": (2, 5, 6), "weight": (4, 6), "bias": (4,), "a": (2, 6), "b": (4, 2), "magnitude": (4,)}
    x, weight, bias, a, b, magnitude = (torch.randn(shape, dtype=torch.float64) for shape in shapes.values())
    leaves = [tensor.requires_grad_() for tensor in (x, a, b, magnitude)]
    (found,) = dora_products(x, [DoraWeights(weight, bias, a, b, 0.5, magnitude)])
    changed = weight + 0.5 * b @ a
    wanted = x @ (magnitude / changed.norm(dim=1).detach() * changed.t()) + bias
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn_like(found)
    for gradient, expected in zip(
        torch.autograd.grad(found, leaves, upstream), torch.autograd.grad(wanted, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(gradient, expected)


def test_a_magnitude_of_exactly_zero_makes_no_nan() -> None:
    torch.manual_seed(0)
    magnitude = torch.tensor([0.0, 1.0, -1.0, 0.5], requires_grad=True)
    weights = DoraWeights(torch.randn(4, 6), torch.randn(4), torch.randn(2, 6), torch.randn(4, 2), 0.5, magnitude)
    (found,) = dora_products(torch.randn(3, 6), [weights])
    found.square().sum().backward()
    assert magnitude.grad is not None
    assert magnitude.grad[0] == 0.0
    assert (magnitude.grad[1:] != 0.0).all()


def test_siblings_of_a_pass_that_was_cut_short_are_forgotten() -> None:
    model, plain = attention()
    first, second = torch.randn(3, 6), torch.randn(3, 6)
    with pytest.raises(KeyboardInterrupt):
        model(first, first, stop=True)
    for found, wanted in zip(outcome(model, second, second), outcome(plain, second, second), strict=True):
        assert_near(found, wanted)
