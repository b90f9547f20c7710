"""Where the learned margin of a loss starts."""

from __future__ import annotations

import dataclasses

import torch

from peftrec.config import InputError
from peftrec.losses import LossConfig
from peftrec.models import ProfileVectors, RecommenderModel
from peftrec.training.step import StepPlan, step_inputs

_NUM_HALVINGS = 24
# Where all logits are so far on one side, the sigmoid has reached its end.
_BEYOND = 20.0


@torch.no_grad()
def fit_margin(
    model: RecommenderModel,
    plan: StepPlan,
    loss: LossConfig,
    text_vectors_CH: torch.Tensor | None,
    profile: ProfileVectors | None = None,
) -> None:
    """Set the model's margin to where the loss of a step is least, with all else as it is.

    The loss is convex in what is added to all logits, and its slope is found by autograd: halving finds the least.
    A fixed start would have to know how far the model's dot products lie from 0 and how many negatives a position has;
    from a wrong one, vectors run away before the margin has got there.

    Args:
        model: with a margin.
        plan: from `plan_step`.
        loss: that learns it.
        text_vectors_CH: and `profile`, as in `step_loss`.
    Raises:
        InputError: if no position of the step has a negative.
    """
    margin = model.scale.margin
    assert margin is not None, "the loss learns no margin"
    was_training = model.training
    model.eval()
    margin.zero_()
    inputs = step_inputs(model, plan, text_vectors_CH, profile)
    model.train(was_training)
    bias_C = inputs.candidates_CD.new_zeros(len(inputs.candidates_CD)) if inputs.bias_C is None else inputs.bias_C

    def slope(offset: float) -> float:
        with torch.enable_grad():
            added = bias_C.new_tensor(offset, requires_grad=True)
            loss.compute(dataclasses.replace(inputs, bias_C=bias_C + added)).backward()  # type: ignore[no-untyped-call]
        assert added.grad is not None
        return float(added.grad)

    # No logit is larger than the longest query and the longest item allow.
    longest = [float(vectors.norm(dim=1).max()) for vectors in (inputs.queries_PD, inputs.candidates_CD)]
    end = longest[0] * longest[1] + float(bias_C.abs().max()) + _BEYOND
    low, high = -end, end
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    if end - high < 1e-3 * end:
        raise InputError(
            f"loss.kind: {loss.kind} found no negative for any position of the first batch, so that all scores would "
            f"rise without end; take more users a batch (training.batch_users), or loss.negatives={{kind: uniform}}"
        )
    margin.fill_(-(low + high) / 2 / float(model.scale()))
