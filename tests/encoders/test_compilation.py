"""torch.compile as a switch: the same layers, the same names, the same vectors and gradients, compiled a few times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, TextEncoder, check_compilation, compilation, compiled_layers, load_backbone
from peftrec.methods import METHODS, find_layers

CPU = torch.device("cpu")
TEXTS = [
    "small red wine. wine", "large blue cheese", "green tea", "a", "goat", "tea", "red", "corn bread",
    "black rye bread, small, dry, sweet, oak. bread", "iced mint herb tea - large. tea", "soft aged blue goat cheese",
]  # fmt: skip


class Counter:
    """A backend that runs what it is given as it is, and counts."""

    def __init__(self) -> None:
        self.num_graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        del inputs
        self.num_graphs += 1
        return graph.forward


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    found = Counter()
    monkeypatch.setattr(compilation, "BACKEND", found)
    return found


@pytest.fixture
def make(backbones: dict[str, Path]) -> Callable[..., TextEncoder]:
    def make(family: str, kind: str = "lora", *, checkpointing: bool = False, **settings: Any) -> TextEncoder:
        torch.manual_seed(0)
        config = EncoderConfig(max_tokens=16, token_budget=48, gradient_checkpointing=checkpointing)
        return TextEncoder(load_backbone(str(backbones[family])), config, METHODS.load(kind)(**settings))

    return make


def passes(encoder: TextEncoder, *, stored: bool) -> list[torch.Tensor]:
    """Vectors and gradients of a pass of training, and vectors without dropout after it."""
    texts = encoder.tokenize(TEXTS)
    texts = encoder.store_trunk(texts) if stored else texts
    encoder.train()
    encoder.zero_grad(set_to_none=True)
    leaves = encoder.training_vectors(texts, torch.arange(len(TEXTS)), graph_bytes=2**40)
    leaves.vectors_NH.square().sum().backward()  # type: ignore[no-untyped-call]
    leaves.backward()
    gradients = [parameter.grad for parameter in encoder.trained_parameters() if parameter.grad is not None]
    assert gradients
    return [leaves.vectors_NH.detach(), *gradients, encoder.encode(texts)]


@pytest.mark.parametrize(
    ("family", "stored", "checkpointing", "kind"),
    [
        ("bert", True, False, "lora"),
        pytest.param("llama", True, False, "lora", marks=pytest.mark.slow),
        pytest.param("bert", False, True, "lora", marks=pytest.mark.slow),
        pytest.param("llama", False, True, "lora", marks=pytest.mark.slow),
        pytest.param("bert", True, False, "adapter", marks=pytest.mark.slow),
        pytest.param("llama", True, False, "prefix", marks=pytest.mark.slow),
        pytest.param("bert", False, False, "full", marks=pytest.mark.slow),
        pytest.param("llama", False, False, "oft", marks=pytest.mark.slow),
    ],
)
def test_compiled_layers_give_the_same(
    family: str, stored: bool, checkpointing: bool, kind: str, make: Callable[..., TextEncoder], counter: Counter
) -> None:
    own = {"lora": {"rank": 2}, "prefix": {"num_tokens": 3}, "oft": {"block_size": 8}}.get(kind, {})
    settings = own | ({"layers": 2} if stored else {})
    plain = make(family, kind, checkpointing=checkpointing, **settings)
    expected = passes(plain, stored=stored)
    encoder = make(family, kind, checkpointing=checkpointing, **settings)
    layers, names = list(find_layers(encoder.model).layers), list(encoder.state_dict())
    with compiled_layers([encoder]):
        found = passes(encoder, stored=stored)
        assert list(find_layers(encoder.model).layers) == layers
        assert list(encoder.state_dict()) == names
        # For all layers and lengths: with and without gradients, mask, and more than one text.
        assert 0 < counter.num_graphs <= (8 if kind == "lora" else 32)
        before = counter.num_graphs
        again = passes(encoder, stored=stored)
        assert counter.num_graphs == before
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(one, other) for one, other in zip(again, found, strict=True))
    assert torch.equal(encoder.encode(encoder.tokenize(TEXTS)), plain.encode(plain.tokenize(TEXTS)))
    assert counter.num_graphs == before


def test_what_cannot_be_compiled_is_refused(
    make: Callable[..., TextEncoder], counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_compilation([make("bert", rank=2)], CPU)
    assert counter.num_graphs == 1
    frozen, side = make("bert", "frozen"), make("bert", "side", width=8)
    for encoders, kinds in (([frozen], "frozen"), ([side, frozen], "frozen and side"), ([], "encoder.inputs: ids")):
        with pytest.raises(InputError, match=rf"^training\.compile is true, but no layer .* trains with {kinds}; use"):
            check_compilation(encoders, CPU)
    check_compilation([make("bert", rank=2), side], CPU)

    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler found\nat all")

    torch._dynamo.reset()
    monkeypatch.setattr(compilation, "BACKEND", broken)
    with pytest.raises(InputError, match=r"torch\.compile does not work on the device 'cpu' here: .*no compiler found"):
        check_compilation([make("bert", rank=2)], CPU)
    torch._dynamo.reset()


def test_quantised_layers_are_refused(make: Callable[..., TextEncoder], counter: Counter) -> None:
    import dataclasses

    encoder = make("bert", rank=2)
    encoder.backbone = dataclasses.replace(encoder.backbone, quantization="nf4")
    with pytest.raises(InputError, match=r"layers of bitsandbytes are not compiled \(encoder\.quantization is nf4\)"):
        check_compilation([encoder], CPU)


@pytest.mark.slow
def test_inductor_gives_the_same(make: Callable[..., TextEncoder]) -> None:
    encoder, plain = make("bert", rank=2, layers=2), make("bert", rank=2, layers=2)
    check_compilation([encoder], CPU)
    with compiled_layers([encoder]):
        found = passes(encoder, stored=True)
    for one, other in zip(found, passes(plain, stored=True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
