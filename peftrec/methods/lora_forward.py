"""LoRA layers of a model that compute by `lora_products`, `dora_products` or merged weights, where that is all they do.

Shapes: I inputs, O outputs, R rank.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.methods.dora_products import DoraWeights, dora_products
from peftrec.methods.lora_products import LoraWeights, lora_products

# Bytes of merged weights that a model may hold beside its own.
_MERGED_BYTES = 512 * 2**20


# Layers of one module that read one input, by their names: attention's projections, and gated feed-forward parts.
_SIBLINGS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("gate_proj", "up_proj"),
)


@dataclasses.dataclass
class _Ahead:
    """Results that were computed with those of a sibling, from the same input."""

    x: torch.Tensor
    results: dict[int, torch.Tensor]


class Siblings:
    """LoRA layers that are thought to read one input: the first one called computes for all.

    Where one is then called with another input, they do not, and each computes for itself from then on.

    Args:
        layers: of one module.
    """

    def __init__(self, layers: Sequence[LoraForward]) -> None:
        self.layers = tuple(layers)
        self._ahead: _Ahead | None = None

    def result(self, layer: LoraForward, x: torch.Tensor) -> torch.Tensor | None:
        """Return what a layer that can compute gives for an input; None where it must do so by itself."""
        number, ahead = self.layers.index(layer), self._ahead
        if ahead is not None and number in ahead.results:
            if ahead.x is not x:
                self.part()
                return None
            found = ahead.results.pop(number)
            if not ahead.results:
                self._ahead = None
            return found
        if not all(sibling.can_compute(x) for sibling in self.layers if sibling is not layer):
            return None
        results = dict(enumerate(_products(x, [sibling.weights() for sibling in self.layers])))
        found = results.pop(number)
        self._ahead = _Ahead(x, results)
        return found

    def part(self) -> None:
        """Let every layer compute for itself."""
        self._ahead = None
        for layer in self.layers:
            layer.siblings = None


class LoraForward:
    """Takes the place of the `forward` of a `peft` LoRA layer, and gives way to it where that does more than eq. 3.

    Gives way to: several adapters or none, variants other than DoRA, dropout that is on, quantised or trained weights,
    autocast, tracing by torch.compile. Between `merge` and `release` products without gradients are those with the
    changed weight.

    Args:
        layer: `peft`'s, of LoRA, around a `torch.nn.Linear`.
    """

    def __init__(self, layer: Any) -> None:
        from peft.tuners.lora.variants import DoraLinearVariant

        self.layer = layer
        self.is_known = all(type(variant) is DoraLinearVariant for variant in layer.lora_variant.values())
        self.plain: Callable[..., torch.Tensor] = layer.forward
        self.siblings: Siblings | None = None
        self._merged_OI: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args or kwargs or not self.can_compute(x):
            return self.plain(x, *args, **kwargs)
        if not torch.is_grad_enabled():
            if self._merged_OI is not None:
                return F.linear(x, self._merged_OI, self.layer.base_layer.bias)
        elif self.siblings is not None:
            found = self.siblings.result(self, x)
            if found is not None:
                return found
        return _products(x, [self.weights()])[0]

    @torch.no_grad()
    def merge(self) -> None:
        """Hold the changed weight as it is now; until `release` W, A, B and magnitudes must not change."""
        self._merged_OI = self.weights().merged_OI()

    def release(self) -> None:
        """Let the merged weight go."""
        self._merged_OI = None

    def can_compute(self, x: torch.Tensor) -> bool:
        """Whether one adapter is on that this computes for an input; where not, `peft`'s own forward must run."""
        layer = self.layer
        if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1 or not self.is_known:
            return False
        name: str = layer.active_adapters[0]
        dropout = layer.lora_dropout[name] if name in layer.lora_A else None
        if dropout is None or (isinstance(dropout, nn.Dropout) and dropout.training and dropout.p > 0):
            return False
        base = layer.base_layer
        trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
        if trained or not x.dtype == base.weight.dtype == self._down(name).dtype or x.dim() < 2:
            return False
        return not torch.is_autocast_enabled(x.device.type) and not torch.compiler.is_compiling()

    def weights(self) -> LoraWeights:
        """Return those of the one adapter that is on, DoRA's with magnitudes."""
        layer, base = self.layer, self.layer.base_layer
        (name,) = layer.active_adapters
        own = (base.weight, base.bias, self._down(name), layer.lora_B[name].weight, layer.scaling[name])
        return DoraWeights(*own, layer.lora_magnitude_vector[name].weight) if layer.lora_variant else LoraWeights(*own)

    def _down(self, name: str) -> torch.Tensor:
        """Return A as it is stored."""
        down: torch.Tensor = self.layer.lora_A[name].weight
        return down


class AdaLoraForward(LoraForward):
    """The same for a layer of AdaLoRA, whose singular values and scale go into A."""

    def weights(self) -> LoraWeights:
        layer, base = self.layer, self.layer.base_layer
        (name,) = layer.active_adapters
        # As peft scales it. The number of ranks is a tensor, and stays on its device.
        values_R1 = layer.lora_E[name] * (layer.scaling[name] / (layer.ranknum[name] + 1e-5))
        return LoraWeights(base.weight, base.bias, self._down(name) * values_R1, layer.lora_B[name], 1.0)

    def _down(self, name: str) -> torch.Tensor:
        down: torch.Tensor = self.layer.lora_A[name]
        return down


def speed_up_lora(model: nn.Module) -> list[LoraForward]:
    """Give every layer of LoRA, DoRA and AdaLoRA the quicker forward pass; names of parameters and files stay.

    Args:
        model: with `peft`'s layers in it.
    Returns:
        What now runs in those layers.
    Source:
        The order of products as in Hu et al. (2022), LoRA, eq. 3, Liu et al. (2024), DoRA, eq. 5, and Zhang et al.
        (2023), AdaLoRA, eq. 3; equal to `peft`'s layers up to rounding.
    """
    from peft.tuners.adalora import SVDLinear
    from peft.tuners.lora import Linear

    kinds: dict[type, type[LoraForward]] = {Linear: LoraForward, SVDLinear: AdaLoraForward}
    found: list[Any] = [module for module in model.modules() if type(module) in kinds]
    quick = [kinds[type(layer)](layer) for layer in found if type(layer.base_layer) is nn.Linear]
    for forward in quick:
        forward.layer.forward = forward
    by_layer = {forward.layer: forward for forward in quick}
    for parent in model.modules():
        children = dict(parent.named_children())
        for names in _SIBLINGS:
            layers = [by_layer[children[name]] for name in names if children.get(name) in by_layer]
            if len(layers) > 1:
                group = Siblings(layers)
                for forward in layers:
                    forward.siblings = group
    return quick


@contextlib.contextmanager
def merged_weights(layers: Sequence[LoraForward]) -> Iterator[None]:
    """Merge LoRA layers for as long as this context lasts, if that takes little memory and loses no precision.

    Args:
        layers: from `speed_up_lora`.
    """
    known = [layer for layer in layers if layer.is_known]
    weights = [layer.layer.base_layer.weight for layer in known]
    size = sum(weight.nbytes for weight in weights)
    able = bool(weights) and size <= _MERGED_BYTES and all(weight.dtype == torch.float32 for weight in weights)
    chosen = known if able else []
    try:
        for layer in chosen:
            layer.merge()
        yield
    finally:
        for layer in chosen:
            layer.release()


def _products(x: torch.Tensor, layers: Sequence[LoraWeights]) -> tuple[torch.Tensor, ...]:
    dora = [layer for layer in layers if isinstance(layer, DoraWeights)]
    if not dora:
        return lora_products(x, layers)
    assert len(dora) == len(layers), "one adapter is DoRA in all of its layers"
    return dora_products(x, dora)
