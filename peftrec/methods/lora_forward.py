"""The forward pass of LoRA with fewer passes over memory than `peft`'s.

Shapes: ... rows of any number, I inputs, O outputs, R rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

# Bytes of merged weights that a model may hold beside its own.
_MERGED_BYTES = 512 * 2**20


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + b + s (x A^T) B^T, the update added in place; W and b are frozen.

    Autograd through `peft`'s own form makes three results of the size of y and, on the way back, two of the size of x;
    here there is one of each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_I: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows_I = x_I.flatten(0, -2)
        inner_R = rows_I @ a_RI.t()
        y_O = F.linear(rows_I, weight_OI, bias_O).addmm_(inner_R, b_OR.t(), alpha=scale)
        ctx.save_for_backward(rows_I, weight_OI, a_RI, b_OR, inner_R)
        ctx.scale, ctx.shape = scale, x_I.shape
        return y_O.view(*x_I.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        rows_I, weight_OI, a_RI, b_OR, inner_R = ctx.saved_tensors
        y_grad = gradients[0].flatten(0, -2)
        inner_grad = torch.mm(y_grad, b_OR).mul_(ctx.scale)
        # In this order the long side is never the one that is written: three times as fast as its transpose.
        b_grad = torch.mm(inner_R.t(), y_grad).mul_(ctx.scale).t()
        a_grad = torch.mm(inner_grad.t(), rows_I)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = torch.mm(y_grad, weight_OI).addmm_(inner_grad, a_RI).view(ctx.shape)
        return x_grad, None, None, a_grad, b_grad, None


class LoraForward:
    """Takes the place of the `forward` of a `peft` LoRA layer, and gives way to it where that does more than eq. 3.

    Gives way to: several adapters or none, DoRA, dropout that is on, quantised or trained weights, autocast, tracing by
    torch.compile. Between `merge` and `release` products without gradients are those with W + s B A.

    Args:
        layer: `peft.tuners.lora.Linear` around a `torch.nn.Linear`.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.plain: Callable[..., torch.Tensor] = layer.forward
        self._merged_OI: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        name = self._adapter(x) if not (args or kwargs) else None
        if name is None:
            return self.plain(x, *args, **kwargs)
        base, scale = self.layer.base_layer, self.layer.scaling[name]
        if self._merged_OI is not None and not torch.is_grad_enabled():
            return F.linear(x, self._merged_OI, base.bias)
        a_RI, b_OR = self.layer.lora_A[name].weight, self.layer.lora_B[name].weight
        result: torch.Tensor = _LoraLinear.apply(x, base.weight, base.bias, a_RI, b_OR, scale)  # type: ignore[no-untyped-call]
        return result

    @torch.no_grad()
    def merge(self) -> None:
        """Hold W + s B A as they are now; until `release` they must not change."""
        (name,) = self.layer.active_adapters
        a_RI, b_OR = self.layer.lora_A[name].weight, self.layer.lora_B[name].weight
        self._merged_OI = torch.addmm(self.layer.base_layer.weight, b_OR, a_RI, alpha=self.layer.scaling[name])

    def release(self) -> None:
        """Let the merged weight go."""
        self._merged_OI = None

    def _adapter(self, x: torch.Tensor) -> str | None:
        """Return the one adapter that is on, or None where `peft`'s own forward must run."""
        layer = self.layer
        if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1 or layer.lora_variant:
            return None
        name: str = layer.active_adapters[0]
        dropout = layer.lora_dropout[name] if name in layer.lora_A else None
        if dropout is None or (isinstance(dropout, nn.Dropout) and dropout.training and dropout.p > 0):
            return None
        base, a_RI = layer.base_layer.weight, layer.lora_A[name].weight
        if base.requires_grad or not x.dtype == base.dtype == a_RI.dtype or x.dim() < 2:
            return None
        if torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
            return None
        return name


def speed_up_lora(model: nn.Module) -> list[LoraForward]:
    """Give every plain LoRA layer of a model the quicker forward pass; names of parameters and files stay.

    Args:
        model: with `peft`'s LoRA in it.
    Returns:
        What now runs in those layers.
    Source:
        The order of products as in Hu et al. (2022), LoRA, eq. 3; equal to `peft`'s layer up to rounding.
    """
    from peft.tuners.lora import Linear

    found: list[Any] = [module for module in model.modules() if type(module) is Linear]
    quick = [LoraForward(layer) for layer in found if type(layer.base_layer) is nn.Linear]
    for forward in quick:
        forward.layer.forward = forward
    return quick


@contextlib.contextmanager
def merged_weights(layers: Sequence[LoraForward]) -> Iterator[None]:
    """Merge plain LoRA layers for as long as this context lasts, if that takes little memory and loses no precision.

    Args:
        layers: from `speed_up_lora`.
    """
    weights = [layer.layer.base_layer.weight for layer in layers if not layer.layer.lora_variant]
    size = sum(weight.nbytes for weight in weights)
    able = bool(weights) and size <= _MERGED_BYTES and all(weight.dtype == torch.float32 for weight in weights)
    chosen = [layer for layer in layers if not layer.layer.lora_variant] if able else []
    try:
        for layer in chosen:
            layer.merge()
        yield
    finally:
        for layer in chosen:
            layer.release()
