"""Losses that set the next item's logit against those of negatives, in bounded memory.

Shapes: P positions, Q positions in a chunk, B users, C candidates, D width, S items of one user, K picks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import torch

from peftrec.config import Range
from peftrec.losses.loss import LossConfig, LossInputs, check_positions
from peftrec.losses.negatives import NEGATIVES, NegativesConfig, UniformNegatives

Formula = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastLoss(LossConfig):
    """What losses over negatives share: loss = mean_p formula(s_target, {s_n : n in S_p}), with s_c = u_p . v_c + b_c.

    The negatives S_p of a position are what `negatives` names (the drawn items, not those that are only in the batch),
    without the target and without other training items of the same user. Nothing corrects for how likely an item is
    to be among them: their source decides how hard it is pushed down.

    Args:
        negatives: where they come from.
        per_position: so many are picked for each position for itself, uniformly and with replacement; what falls on an
            item of the user is left out, so that a position may have fewer. None takes all.
        max_logits: logits held at a time (about 20 bytes each).
    """

    negatives: Annotated[NegativesConfig, NEGATIVES] = dataclasses.field(default_factory=UniformNegatives)
    per_position: Annotated[int, Range(ge=1)] | None = None
    max_logits: Annotated[int, Range(ge=1)] = 2_000_000

    @property
    def source(self) -> NegativesConfig:
        return self.negatives

    @property
    def num_picks(self) -> int | None:
        return self.per_position

    def formula(self, inputs: LossInputs) -> Formula:
        """Return the function of (target logits (Q, 1), logits (Q, C), how often each is a negative (Q, C)) to (Q,).

        It is elementwise over the positions; what is no negative has the weight 0.
        """
        raise NotImplementedError

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        check_positions(inputs)
        bias_C = inputs.bias_C
        result: torch.Tensor = _ChunkedContrast.apply(  # type: ignore[no-untyped-call]
            inputs.queries_PD,
            inputs.candidates_CD,
            inputs.candidates_CD.new_zeros(len(inputs.candidates_CD)) if bias_C is None else bias_C,
            inputs,
            self.formula(inputs),
            max(1, self.max_logits // len(inputs.candidates_CD)),
        )
        return result


class _ChunkedContrast(torch.autograd.Function):
    """Mean of a formula over the logits; gradients are taken chunk by chunk in the forward pass.

    Only one chunk of logits, (Q, C), exists at a time and none is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries_PD: torch.Tensor,
        candidates_CD: torch.Tensor,
        bias_C: torch.Tensor,
        inputs: LossInputs,
        formula: Formula,
        chunk: int,
    ) -> torch.Tensor:
        num_positions, weights_P = len(queries_PD), inputs.weights_P
        count = num_positions if weights_P is None else weights_P.sum()
        queries_grad = torch.empty_like(queries_PD)
        candidates_grad = torch.zeros_like(candidates_CD)
        bias_grad = torch.zeros_like(bias_C)
        loss = queries_PD.new_zeros(())
        for start in range(0, num_positions, chunk):
            part = slice(start, start + chunk)
            queries_QD = queries_PD[part]
            logits_QC = torch.addmm(bias_C, queries_QD, candidates_CD.T)
            with torch.enable_grad():
                logits_QC.requires_grad_()
                target_Q1 = logits_QC.gather(1, inputs.targets_P[part, None])
                loss_Q = formula(target_Q1, logits_QC, _negatives(inputs, part, logits_QC))
                part_loss = (loss_Q if weights_P is None else loss_Q * weights_P[part]).sum() / count
                (logits_grad,) = torch.autograd.grad(part_loss, logits_QC)
            loss += part_loss.detach()
            torch.mm(logits_grad, candidates_CD, out=queries_grad[part])
            candidates_grad.addmm_(logits_grad.T, queries_QD)
            bias_grad += logits_grad.sum(0)
        ctx.save_for_backward(queries_grad, candidates_grad, bias_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (gradient,) = grad_outputs
        queries_grad, candidates_grad, bias_grad = ctx.saved_tensors
        return queries_grad * gradient, candidates_grad * gradient, bias_grad * gradient, None, None, None


def _negatives(inputs: LossInputs, part: slice, logits_QC: torch.Tensor) -> torch.Tensor:
    """How often each candidate is a negative of each position, shape (Q, C): 0 for the user's own items."""
    targets_Q1, seen_QS = inputs.targets_P[part, None], inputs.seen_BS[inputs.rows_P[part]]
    weights_QC = torch.zeros_like(logits_QC, requires_grad=False)
    if inputs.picks_PK is None:
        weights_QC += 1 if inputs.negative_C is None else inputs.negative_C
    else:
        picks_QK = inputs.picks_PK[part]
        weights_QC.scatter_add_(1, picks_QK.clamp(min=0), (picks_QK >= 0).to(weights_QC.dtype))
    # Padding points at the target, which is no negative anyway.
    weights_QC.scatter_(1, torch.where(seen_QS >= 0, seen_QS, targets_Q1), 0.0)
    return weights_QC.scatter_(1, targets_Q1, 0.0)
