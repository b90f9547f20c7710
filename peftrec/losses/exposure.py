"""Expected exposure of the candidates, in constant memory.

Shapes: P positions, Q positions in a chunk, B users, C candidates, D width, S items of one user.
"""

from __future__ import annotations

from typing import Any

import torch

from peftrec.losses.loss import LossInputs


class _MeanSoftmax(torch.autograd.Function):
    """Mean over positions of softmax(u V^T + b); chunks of logits, (Q, C), are computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_PD: torch.Tensor,
        candidates_CD: torch.Tensor,
        bias_C: torch.Tensor,
        rows_P: torch.Tensor,
        seen_BS: torch.Tensor,
        past_P: torch.Tensor,
        chunk: int,
    ) -> torch.Tensor:
        tensors = (queries_PD, candidates_CD, bias_C, rows_P, seen_BS, past_P)
        ctx.save_for_backward(*tensors)
        ctx.chunk = chunk
        total_C = torch.zeros_like(bias_C)
        for start in range(0, len(queries_PD), chunk):
            total_C += _shares(tensors, slice(start, start + chunk)).sum(0)
        return total_C / len(queries_PD)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (gradient_C,) = grad_outputs
        queries_PD, candidates_CD, bias_C, *_ = ctx.saved_tensors
        queries_grad = torch.empty_like(queries_PD)
        candidates_grad = torch.zeros_like(candidates_CD)
        bias_grad = torch.zeros_like(bias_C)
        for start in range(0, len(queries_PD), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            shares_QC = _shares(ctx.saved_tensors, part)
            # Of a softmax p with the gradient v: p (v - p . v).
            slopes_QC = shares_QC * (gradient_C - (shares_QC @ gradient_C)[:, None]) / len(queries_PD)
            torch.mm(slopes_QC, candidates_CD, out=queries_grad[part])
            candidates_grad.addmm_(slopes_QC.T, queries_PD[part])
            bias_grad += slopes_QC.sum(0)
        return queries_grad, candidates_grad, bias_grad, None, None, None, None


def _shares(tensors: tuple[torch.Tensor, ...], part: slice) -> torch.Tensor:
    """Return the softmax at some positions, shape (Q, C): 0 for what the user has had before."""
    queries_PD, candidates_CD, bias_C, rows_P, seen_BS, past_P = tensors
    logits_QC = torch.addmm(bias_C, queries_PD[part], candidates_CD.T)
    seen_QS = seen_BS[rows_P[part]]
    early_S = torch.arange(seen_QS.shape[1], device=seen_QS.device)
    # One column more takes the padding, so that no real item is touched by it.
    places_QS = torch.where((seen_QS >= 0) & (early_S < past_P[part, None]), seen_QS, len(bias_C))
    had_QC = torch.zeros(len(seen_QS), len(bias_C) + 1, dtype=torch.bool, device=bias_C.device)
    had_QC = had_QC.scatter_(1, places_QS, True)[:, :-1]
    shares_QC = logits_QC.masked_fill_(had_QC, torch.finfo(logits_QC.dtype).min).softmax(1)
    # Where nothing is left to show, nothing is shown.
    return shares_QC.masked_fill_(had_QC, 0.0)


def expected_exposure(inputs: LossInputs, *, max_logits: int) -> torch.Tensor:
    """Return the chance of each candidate to stand first in a list drawn from the scores, mean over positions.

    e_c = mean_p softmax_c(u_p . v_c + b_c - log Q_c), over the candidates that the user has not had before position p;
    those are never shown. Where the candidates are a sample, Q_c is the probability that c is among them, and e is the
    self-normalised estimate of the exposure over all items that have training events. Lists that are drawn without
    replacement (Plackett and Luce) begin like this.

    Args:
        inputs: see `LossInputs`.
        max_logits: how many logits exist at a time.
    Returns:
        Shape (C,); it sums to 1, but for positions whose candidates the user has all had.
    Raises:
        ValueError: if there is no position.
    Source:
        Diaz et al. (2020), Evaluating Stochastic Rankings with Expected Exposure; here of the first place alone.
    """
    if len(inputs.queries_PD) == 0:
        raise ValueError("a step without any position that has a next item has no exposure")
    bias_C = inputs.candidates_CD.new_zeros(len(inputs.candidates_CD)) if inputs.bias_C is None else inputs.bias_C
    if inputs.log_q_C is not None:
        bias_C = bias_C - inputs.log_q_C
    chunk = max(1, max_logits // len(inputs.candidates_CD))
    result: torch.Tensor = _MeanSoftmax.apply(  # type: ignore[no-untyped-call]
        inputs.queries_PD, inputs.candidates_CD, bias_C, inputs.rows_P, inputs.seen_BS, inputs.past_P, chunk
    )
    return result
