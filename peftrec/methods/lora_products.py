"""The products of LoRA layers that read one input, with fewer passes over memory than `peft`'s.

Shapes: ... rows of any number, I inputs, O outputs, R rank, S ranks of all layers together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class LoraWeights:
    """What a LoRA layer computes with; W and b are frozen."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor | None
    a_RI: torch.Tensor
    b_OR: torch.Tensor
    scale: float

    def merged_OI(self) -> torch.Tensor:
        """Return the changed weight, W + s B A."""
        return torch.addmm(self.weight_OI, self.b_OR, self.a_RI, alpha=self.scale)


def lora_products(x_I: torch.Tensor, layers: Sequence[LoraWeights]) -> tuple[torch.Tensor, ...]:
    """Return y = x W^T + b + s (x A^T) B^T of every layer, shape (..., O), for one x of shape (..., I)."""
    found: tuple[torch.Tensor, ...] = _LoraProducts.apply(x_I, *kind_by_kind(layers))  # type: ignore[no-untyped-call]
    return found


def kind_by_kind(layers: Sequence[LoraWeights]) -> list[Any]:
    """Return scales and biases of layers, each as a list, and then every W, every A and every B."""
    return [
        [layer.scale for layer in layers],
        [layer.bias_O for layer in layers],
        *[layer.weight_OI for layer in layers],
        *[layer.a_RI for layer in layers],
        *[layer.b_OR for layer in layers],
    ]


def update_gradients(
    rows_I: torch.Tensor,
    inner_S: torch.Tensor,
    y_grads: Sequence[torch.Tensor],
    ups: Sequence[torch.Tensor],
    scales: Sequence[float],
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], list[torch.Tensor]]:
    """Return the gradients of the inner products x A^T of all layers, shape (..., S), and of every A and every B.

    Args:
        rows_I: x.
        inner_S: x A^T of all layers, side by side.
        y_grads: of every layer's result.
        ups: every B.
        scales: every s.
    """
    inner_grad_S, b_grads = torch.empty_like(inner_S), []
    ranks = [up.shape[1] for up in ups]
    of_layers = [torch.split(side, ranks, dim=1) for side in (inner_S, inner_grad_S)]
    for y_grad, b_OR, inner_R, inner_grad_R, scale in zip(y_grads, ups, *of_layers, scales, strict=True):
        torch.mm(y_grad, b_OR, out=inner_grad_R)
        inner_grad_R.mul_(scale)
        # In this order the long side is never the one that is written: three times as fast as its transpose.
        b_grads.append(torch.mm(inner_R.t(), y_grad).mul_(scale).t())
    return inner_grad_S, torch.split(torch.mm(inner_grad_S.t(), rows_I), ranks), b_grads


class _LoraProducts(torch.autograd.Function):
    """Updates are added in place, and gradients of x summed by the products that make them.

    Autograd through `peft`'s own form makes three results of the size of y for each layer and, on the way back, three
    of the size of x; here there is one of each y, and one of x.
    """

    @staticmethod
    def forward(
        ctx: Any, x_I: torch.Tensor, scales: list[float], biases: list[torch.Tensor | None], *matrices: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        weights, ups = matrices[: len(scales)], matrices[2 * len(scales) :]
        a_SI = together(matrices[len(scales) : 2 * len(scales)])
        ranks = [up.shape[1] for up in ups]
        rows_I = x_I.flatten(0, -2)
        inner_S = rows_I @ a_SI.t()
        results = []
        for weight_OI, bias_O, b_OR, inner_R, scale in zip(
            weights, biases, ups, torch.split(inner_S, ranks, dim=1), scales, strict=True
        ):
            y_O = F.linear(rows_I, weight_OI, bias_O).addmm_(inner_R, b_OR.t(), alpha=scale)
            results.append(y_O.view(*x_I.shape[:-1], -1))
        ctx.save_for_backward(rows_I, a_SI, inner_S, *weights, *ups)
        ctx.scales, ctx.shape = scales, x_I.shape
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        rows_I, a_SI, inner_S, *matrices = ctx.saved_tensors
        weights, ups = matrices[: len(gradients)], matrices[len(gradients) :]
        y_grads = [gradient.flatten(0, -2) for gradient in gradients]
        inner_grad_S, a_grads, b_grads = update_gradients(rows_I, inner_S, y_grads, ups, ctx.scales)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = torch.mm(y_grads[0], weights[0])
            for y_grad, weight_OI in zip(y_grads[1:], weights[1:], strict=True):
                x_grad.addmm_(y_grad, weight_OI)
            x_grad = x_grad.addmm_(inner_grad_S, a_SI).view(ctx.shape)
        return x_grad, None, None, *[None for _ in weights], *a_grads, *b_grads


def together(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return matrices as one, row after row."""
    return matrices[0] if len(matrices) == 1 else torch.cat(tuple(matrices))
