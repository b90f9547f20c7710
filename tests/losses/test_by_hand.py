"""Every loss on one position that can be worked out on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from peftrec.config import parse_section
from peftrec.losses import LOSSES, LossInputs


def one(
    weights: Sequence[float],
    *,
    inclusion: Sequence[float] | None = None,
    own: Sequence[int] = (),
    negative: Sequence[bool] | None = None,
    picks: Sequence[int] | None = None,
    num_items: int = 11,
) -> LossInputs:
    """One position whose candidates have the logits log(weight); the first is the target."""
    return LossInputs(
        queries_PD=torch.ones(1, 1, dtype=torch.float64),
        candidates_CD=torch.tensor(weights, dtype=torch.float64).log()[:, None],
        targets_P=torch.tensor([0]),
        bias_C=None,
        rows_P=torch.tensor([0]),
        seen_BS=torch.tensor([[0, *own]]),
        past_P=torch.tensor([1 + len(own)]),
        log_q_C=None if inclusion is None else torch.tensor(inclusion, dtype=torch.float64).log(),
        negative_C=None if negative is None else torch.tensor(negative),
        picks_PK=None if picks is None else torch.tensor([picks]),
        num_items=num_items,
    )


log = math.log
Q = (0.5, 0.25, 1.0)
# sigmoid(log w) = w / (1 + w); sigmoid(log a - log b) = a / (a + b).
BY_HAND: list[tuple[str, dict[str, Any], LossInputs, float]] = [
    ("full_softmax", {}, one((2, 3, 5)), log(10 / 2)),
    ("full_softmax", {}, one((2, 3, 5), own=[1]), log(7 / 2)),
    ("full_softmax", {"mask_seen": "none"}, one((2, 3, 5), own=[1]), log(10 / 2)),
    ("in_batch_softmax", {}, one((2, 3, 5), inclusion=Q), log((4 + 12 + 5) / 4)),
    ("in_batch_softmax", {}, one((2, 3, 5), inclusion=Q, own=[1]), log((4 + 5) / 4)),
    ("in_batch_softmax", {"log_q": False}, one((2, 3, 5), inclusion=Q), log(10 / 2)),
    ("sampled_softmax", {}, one((2, 3, 5), inclusion=Q), log((4 + 12 + 5) / 4)),
    ("sampled_softmax", {}, one((2, 3, 5), inclusion=Q, own=[2]), log((4 + 12) / 4)),
    # The batch's items are candidates of a softmax, drawn or not.
    ("sampled_softmax", {"log_q": False}, one((2, 3, 5), negative=[False, False, True]), log(10 / 2)),
    ("bpr", {}, one((2, 3, 5)), (log(5 / 2) + log(7 / 2)) / 2),
    ("bpr", {}, one((2, 3, 5), own=[1]), log(7 / 2)),
    ("bpr", {}, one((2, 3, 5), negative=[True, True, False]), log(5 / 2)),
    ("bpr", {"per_position": 3}, one((2, 3, 5), picks=[1, 1, 2]), (2 * log(5 / 2) + log(7 / 2)) / 3),
    ("bpr", {}, one((2, 3, 5), own=[1, 2]), 0.0),
    ("bce", {}, one((2, 3, 5)), (log(3 / 2) + log(4) + log(6)) / 3),
    ("bce", {"per_position": 1}, one((2, 3, 5), picks=[2]), (log(3 / 2) + log(6)) / 2),
    ("bce", {}, one((2, 3, 5), own=[1, 2]), log(3 / 2)),
    # alpha = 2/10, beta = .2 (.75 (1 - 5) + 5) = .4
    ("gbce", {}, one((2, 3, 5)), (0.4 * log(3 / 2) + log(4) + log(6)) / 3),
    # alpha = 1/10, beta = .1 (.5 (1 - 10) + 10) = .55
    ("gbce", {"calibration": 0.5}, one((2, 3, 5), own=[1]), (0.55 * log(3 / 2) + log(6)) / 2),
    ("gbce", {"calibration": 1.0}, one((2, 3, 5)), (0.2 * log(3 / 2) + log(4) + log(6)) / 3),
    # All others are negatives: alpha = 1, and beta = 1.
    ("gbce", {"calibration": 1.0}, one((2, 3, 5), num_items=3), (log(3 / 2) + log(4) + log(6)) / 3),
]


@pytest.mark.parametrize(("kind", "settings", "inputs", "expected"), BY_HAND)
def test_by_hand(kind: str, settings: dict[str, Any], inputs: LossInputs, expected: float) -> None:
    loss = parse_section(LOSSES.load(kind), settings)
    assert float(loss.compute(inputs)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # u . v = 4, b = .5, R = 5: the error is -.5; |u|^2 = 5, |v|^2 = 9.25.
        ({"l2": 0.0}, 0.25),
        ({"l2": 0.0, "mean_rating": 3.0}, 6.25),
        ({"l2": 0.1, "mean_rating": 3.0}, 6.25 + 1.425),
    ],
)
def test_squared_error_by_hand(settings: dict[str, float], expected: float) -> None:
    inputs = LossInputs(
        queries_PD=torch.tensor([[1.0, 2.0]]),
        candidates_CD=torch.tensor([[7.0, 7.0], [3.0, 0.5]]),
        targets_P=torch.tensor([1]),
        bias_C=torch.tensor([9.0, 0.5]),
        rows_P=torch.tensor([0]),
        seen_BS=torch.tensor([[1]]),
        past_P=torch.tensor([0]),
        ratings_P=torch.tensor([5.0]),
    )
    assert float(LOSSES.load("squared_error")(**settings).compute(inputs)) == pytest.approx(expected)


def test_every_loss_is_worked_out_here() -> None:
    assert {kind for kind, *_ in BY_HAND} | {"squared_error"} == set(LOSSES.kinds())


def test_gbce_is_bce_without_calibration_and_with_all_items_as_negatives() -> None:
    inputs = one((2, 3, 5, 0.1))
    bce = LOSSES.load("bce")().compute(inputs)
    assert torch.equal(LOSSES.load("gbce")(calibration=0.0).compute(inputs), bce)
    whole = one((2, 3, 5, 0.1), num_items=4)
    torch.testing.assert_close(LOSSES.load("gbce")(calibration=0.9).compute(whole), bce)
    # Fewer negatives, a weaker pull: an overconfident positive is the cheaper, the more it is calibrated.
    losses = [float(LOSSES.load("gbce")(calibration=t).compute(inputs)) for t in (0.0, 0.5, 1.0)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 3
