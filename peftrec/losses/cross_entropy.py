"""Softmax cross-entropy over many candidates in constant memory.

Shapes: P positions, Q positions in a chunk, B users, C candidates, D width, S items of one user.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from peftrec.losses.loss import LossInputs, check_positions

Mask = Literal["past", "all", "none"]


# Logits that passes over single numbers take at a time: they stay in the cache from one pass to the next.
_CACHED_LOGITS = 400_000


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean of logsumexp(u V^T + b) - (u V^T + b)[target]; gradients are taken chunk by chunk in the forward pass.

    Only one chunk of logits, (Q, C), exists at a time and none is computed twice. With w = exp(logit - highest) and t
    their sum, the gradient of a logit is (w - t [target]) / (t P): chunks hold w - t [target], and the division is of
    rows of queries and of their gradients. A position of weight a has t / a in the place of t there, and the sum of
    weights stands in the place of P.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries_PD: torch.Tensor,
        candidates_CD: torch.Tensor,
        bias_C: torch.Tensor | None,
        targets_P: torch.Tensor,
        rows_P: torch.Tensor,
        seen_BS: torch.Tensor,
        masked_P: torch.Tensor | None,
        weights_P: torch.Tensor | None,
        chunk: int,
    ) -> torch.Tensor:
        num_positions = len(queries_PD)
        count = num_positions if weights_P is None else weights_P.sum()
        queries_grad = torch.empty_like(queries_PD)
        candidates_grad = torch.zeros_like(candidates_CD)
        bias_grad = None if bias_C is None else torch.zeros_like(bias_C)
        buffer_QC = queries_PD.new_empty(min(chunk, num_positions), len(candidates_CD))
        loss = queries_PD.new_zeros(())
        for start in range(0, num_positions, chunk):
            part = slice(start, start + chunk)
            queries_QD, targets_Q1 = queries_PD[part], targets_P[part, None]
            logits_QC = buffer_QC[: len(queries_QD)]
            if bias_C is None:
                torch.mm(queries_QD, candidates_CD.T, out=logits_QC)
            else:
                torch.addmm(bias_C, queries_QD, candidates_CD.T, out=logits_QC)
            if masked_P is not None:
                _mask_seen(logits_QC, seen_BS[rows_P[part]], masked_P[part, None], targets_Q1)
            target_Q1 = logits_QC.gather(1, targets_Q1)
            highest_Q1, total_Q1 = _exponentials(logits_QC)
            loss_Q1 = total_Q1.log() - (target_Q1 - highest_Q1)
            slopes_QC = logits_QC.scatter_add_(1, targets_Q1, -total_Q1)
            if weights_P is not None:
                loss_Q1 *= weights_P[part, None]
                total_Q1 /= weights_P[part, None]
            loss += loss_Q1.sum()
            torch.mm(slopes_QC, candidates_CD, out=queries_grad[part])
            queries_grad[part] /= total_Q1
            candidates_grad.addmm_(slopes_QC.T, queries_QD / total_Q1)
            if bias_grad is not None:
                bias_grad.addmv_(slopes_QC.T, 1 / total_Q1[:, 0])
        for gradient in (queries_grad, candidates_grad, bias_grad):
            if gradient is not None:
                gradient /= count
        ctx.save_for_backward(queries_grad, candidates_grad, bias_grad)
        return loss / count

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (gradient,) = grad_outputs
        queries_grad, candidates_grad, bias_grad = ctx.saved_tensors
        bias_grad = None if bias_grad is None else bias_grad * gradient
        return queries_grad * gradient, candidates_grad * gradient, bias_grad, None, None, None, None, None, None


def _exponentials(logits_QC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put exp(logit - highest) in the place of logits; return the highest of each row and the sum, shape (Q, 1)."""
    highest_Q1 = logits_QC.new_empty(len(logits_QC), 1)
    total_Q1 = torch.empty_like(highest_Q1)
    # A GPU is served best by few large calls.
    rows = max(1, _CACHED_LOGITS // logits_QC.shape[1]) if logits_QC.device.type == "cpu" else len(logits_QC)
    for start in range(0, len(logits_QC), rows):
        part = slice(start, start + rows)
        torch.amax(logits_QC[part], 1, keepdim=True, out=highest_Q1[part])
        torch.sum(logits_QC[part].sub_(highest_Q1[part]).exp_(), 1, keepdim=True, out=total_Q1[part])
    return highest_Q1, total_Q1


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
        inputs.weights_P,
        chunk,
    )
    return result


def less_log_q(inputs: LossInputs) -> torch.Tensor:
    """Return the bias of the candidates, less the log of the probability that each is there, shape (C,)."""
    assert inputs.log_q_C is not None, "candidates that are there by chance come with their inclusion probabilities"
    return -inputs.log_q_C if inputs.bias_C is None else inputs.bias_C - inputs.log_q_C
