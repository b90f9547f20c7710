"""Softmax cross-entropy over many candidates in constant memory.

Shapes: P positions, Q positions in a chunk, B users, C candidates, D width, S items of one user.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from peftrec.losses.loss import LossInputs, check_positions

Mask = Literal["past", "all", "none"]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean of logsumexp(u V^T + b) - (u V^T + b)[target]; gradients are taken chunk by chunk in the forward pass.

    Only one chunk of logits, (Q, C), exists at a time and none is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries_PD: torch.Tensor,
        candidates_CD: torch.Tensor,
        bias_C: torch.Tensor,
        targets_P: torch.Tensor,
        rows_P: torch.Tensor,
        seen_BS: torch.Tensor,
        masked_P: torch.Tensor | None,
        chunk: int,
    ) -> torch.Tensor:
        num_positions = len(queries_PD)
        queries_grad = torch.empty_like(queries_PD)
        candidates_grad = torch.zeros_like(candidates_CD)
        bias_grad = torch.zeros_like(bias_C)
        loss = queries_PD.new_zeros(())
        for start in range(0, num_positions, chunk):
            part = slice(start, start + chunk)
            queries_QD, targets_Q = queries_PD[part], targets_P[part, None]
            logits_QC = torch.addmm(bias_C, queries_QD, candidates_CD.T)
            if masked_P is not None:
                _mask_seen(logits_QC, seen_BS[rows_P[part]], masked_P[part, None], targets_Q)
            highest_Q1 = logits_QC.amax(1, keepdim=True)
            target_Q1 = logits_QC.gather(1, targets_Q) - highest_Q1
            weights_QC = logits_QC.sub_(highest_Q1).exp_()
            total_Q1 = weights_QC.sum(1, keepdim=True)
            loss += (total_Q1.log() - target_Q1).sum()
            weights_QC.div_(total_Q1 * num_positions)
            weights_QC.scatter_add_(1, targets_Q, weights_QC.new_full((len(queries_QD), 1), -1 / num_positions))
            torch.mm(weights_QC, candidates_CD, out=queries_grad[part])
            candidates_grad.addmm_(weights_QC.T, queries_QD)
            bias_grad += weights_QC.sum(0)
        ctx.save_for_backward(queries_grad, candidates_grad, bias_grad)
        return loss / num_positions

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (gradient,) = grad_outputs
        queries_grad, candidates_grad, bias_grad = ctx.saved_tensors
        return queries_grad * gradient, candidates_grad * gradient, bias_grad * gradient, None, None, None, None, None


def _mask_seen(
    logits_QC: torch.Tensor, seen_QS: torch.Tensor, masked_Q1: torch.Tensor, targets_Q1: torch.Tensor
) -> None:
    """Set the logits of a user's first so many items to the lowest number, all but the target's."""
    target = logits_QC.gather(1, targets_Q1)
    # Padding points at the target, whose logit is put back afterwards.
    early_S = torch.arange(seen_QS.shape[1], device=seen_QS.device)
    places_QS = torch.where((seen_QS >= 0) & (early_S < masked_Q1), seen_QS, targets_Q1)
    logits_QC.scatter_(1, places_QS, torch.finfo(logits_QC.dtype).min)
    logits_QC.scatter_(1, targets_Q1, target)


def chunked_cross_entropy(
    inputs: LossInputs, *, bias_C: torch.Tensor | None, mask_seen: Mask, max_logits: int
) -> torch.Tensor:
    """Mean cross-entropy of the targets among all candidates.

    loss = mean_p [ logsumexp_c(u_p . v_c + b_c) - (u_p . v_target + b_target) ]

    Args:
        inputs: see `LossInputs`.
        bias_C: added to the logits; takes the place of `inputs.bias_C`.
        mask_seen: which of the user's own training items are left out of the sum (never the target): those before the
            target, all, or none.
        max_logits: how many logits exist at a time.
    Raises:
        ValueError: if there is no position.
    """
    check_positions(inputs)
    bias_C = inputs.candidates_CD.new_zeros(len(inputs.candidates_CD)) if bias_C is None else bias_C
    masked_P = {"past": inputs.past_P, "all": torch.full_like(inputs.past_P, inputs.seen_BS.shape[1]), "none": None}
    chunk = max(1, max_logits // len(inputs.candidates_CD))
    result: torch.Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        inputs.queries_PD,
        inputs.candidates_CD,
        bias_C,
        inputs.targets_P,
        inputs.rows_P,
        inputs.seen_BS,
        masked_P[mask_seen],
        chunk,
    )
    return result


def less_log_q(inputs: LossInputs) -> torch.Tensor:
    """Return the bias of the candidates, less the log of the probability that each is there, shape (C,)."""
    assert inputs.log_q_C is not None, "candidates that are there by chance come with their inclusion probabilities"
    return -inputs.log_q_C if inputs.bias_C is None else inputs.bias_C - inputs.log_q_C
