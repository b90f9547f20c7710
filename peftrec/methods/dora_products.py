"""The products of DoRA layers that read one input, with one product of the size of a plain linear layer each way.

Shapes: ... rows of any number, I inputs, O outputs, R rank, S ranks of all layers together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from peftrec.methods.lora_products import LoraWeights, kind_by_kind, together, update_gradients


@dataclasses.dataclass(frozen=True)
class DoraWeights(LoraWeights):
    """What a DoRA layer computes with: LoRA's weights, and the length of every row of the changed weight."""

    magnitude_O: torch.Tensor

    def merged_OI(self) -> torch.Tensor:
        """Return the changed weight, m (W + s B A) / ||W + s B A|| row by row."""
        changed_OI, factor_O = _changed(self.weight_OI, self.a_RI, self.b_OR, self.scale, self.magnitude_O)
        return changed_OI.mul_(factor_O[:, None])


def dora_products(x_I: torch.Tensor, layers: Sequence[DoraWeights]) -> tuple[torch.Tensor, ...]:
    """Return y = m / ||W + s B A|| (x (W + s B A)^T) + b of every layer, shape (..., O), for one x of shape (..., I).

    Norms are taken row by row, and get no gradient.

    Source:
        Liu et al. (2024), DoRA, eq. 5 and section 4.3.
    """
    found: tuple[torch.Tensor, ...] = _DoraProducts.apply(  # type: ignore[no-untyped-call]
        x_I, *kind_by_kind(layers), *[layer.magnitude_O for layer in layers]
    )
    return found


class _DoraProducts(torch.autograd.Function):
    """The changed weight, whose norms are needed anyway, is multiplied by at once, and is made again on the way back.

    Autograd through `peft`'s own form keeps the plain result, that of the update and both of them scaled.
    """

    @staticmethod
    def forward(
        ctx: Any, x_I: torch.Tensor, scales: list[float], biases: list[torch.Tensor | None], *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        weights, downs, ups, magnitudes = _of_kinds(tensors, len(scales))
        rows_I = x_I.flatten(0, -2)
        results, factors = [], []
        for weight_OI, bias_O, a_RI, b_OR, magnitude_O, scale in zip(
            weights, biases, downs, ups, magnitudes, scales, strict=True
        ):
            changed_OI, factor_O = _changed(weight_OI, a_RI, b_OR, scale, magnitude_O)
            y_O = F.linear(rows_I, changed_OI.mul_(factor_O[:, None]), bias_O)
            results.append(y_O.view(*x_I.shape[:-1], -1))
            factors.append(factor_O)
        ctx.save_for_backward(rows_I, *tensors, *factors, *results)
        ctx.scales, ctx.biases, ctx.shape = scales, biases, x_I.shape
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        rows_I, *tensors = ctx.saved_tensors
        weights, downs, ups, magnitudes, factors, results = _of_kinds(tensors, len(gradients))
        y_grads = [gradient.flatten(0, -2) for gradient in gradients]
        # As LoRA's with every row of B scaled.
        scaled = [up * factor_O[:, None] for up, factor_O in zip(ups, factors, strict=True)]
        inner_S = rows_I @ together(downs).t()
        _, a_grads, scaled_grads = update_gradients(rows_I, inner_S, y_grads, scaled, ctx.scales)
        b_grads = [gradient.mul_(factor_O[:, None]) for gradient, factor_O in zip(scaled_grads, factors, strict=True)]
        magnitude_grads = []
        for y_grad, result, bias_O, magnitude_O in zip(y_grads, results, ctx.biases, magnitudes, strict=True):
            y_O = result.flatten(0, -2)
            # y - b is m times what the direction gives; no float that is trained lies at exactly 0.
            moved_O = (y_O * y_grad if bias_O is None else (y_O - bias_O).mul_(y_grad)).sum(0)
            magnitude_grads.append(torch.where(magnitude_O == 0, 0.0, moved_O / magnitude_O))
        x_grad = None
        if ctx.needs_input_grad[0]:
            for y_grad, weight_OI, a_RI, b_OR, factor_O, scale in zip(
                y_grads, weights, downs, ups, factors, ctx.scales, strict=True
            ):
                changed_OI = torch.addmm(weight_OI, b_OR, a_RI, alpha=scale).mul_(factor_O[:, None])
                x_grad = torch.mm(y_grad, changed_OI) if x_grad is None else x_grad.addmm_(y_grad, changed_OI)
            assert x_grad is not None
            x_grad = x_grad.view(ctx.shape)
        return x_grad, None, None, *[None for _ in weights], *a_grads, *b_grads, *magnitude_grads


def _changed(
    weight_OI: torch.Tensor, a_RI: torch.Tensor, b_OR: torch.Tensor, scale: float, magnitude_O: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return W + s B A, and the factors on its rows."""
    changed_OI = torch.addmm(weight_OI, b_OR, a_RI, alpha=scale)
    return changed_OI, magnitude_O / torch.linalg.vector_norm(changed_OI, dim=1)


def _of_kinds(tensors: Sequence[torch.Tensor], layers: int) -> list[Sequence[torch.Tensor]]:
    """Return tensors that stand kind by kind, with those of all layers in each, as a list of kinds."""
    return [tensors[start : start + layers] for start in range(0, len(tensors), layers)]
