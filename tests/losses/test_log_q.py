"""The sign of logQ: in expectation over what is drawn, the gradient is that of the softmax over all items."""

from __future__ import annotations

import pytest
import torch

from peftrec.losses import LOSSES, NEGATIVES, LossInputs, log_complement, log_missed_probability

NUM_ITEMS, NUM_EVENTS, NUM_DRAWS, NUM_BATCHES = 50, 40, 20, 300
DEPTH, NUM_MINED = 6, 3


def frequencies() -> torch.Tensor:
    """A few items are popular, the first the most."""
    weights = 1 / torch.arange(1, NUM_ITEMS + 1, dtype=torch.float64)
    return weights / weights.sum()


def mean_gradient(scores: torch.Tensor, kind: str) -> dict[bool, torch.Tensor]:
    """The gradient of the scores, over many batches, with the correction and without."""
    popularity = frequencies()
    counts = (popularity * 1e6).round().long().numpy()
    drawn_by = torch.from_numpy(NEGATIVES.load(kind)().frequencies(counts))
    generator = torch.Generator().manual_seed(0)
    mean = {corrected: torch.zeros(NUM_ITEMS, dtype=torch.float64) for corrected in (True, False)}
    for _ in range(NUM_BATCHES):
        targets = torch.multinomial(popularity, NUM_EVENTS, replacement=True, generator=generator)
        drawn = torch.multinomial(drawn_by, NUM_DRAWS, replacement=True, generator=generator)
        log_missed = log_missed_probability(popularity, NUM_EVENTS) + log_missed_probability(drawn_by, NUM_DRAWS)
        if kind == "hard":
            highest = scores.topk(DEPTH).indices
            drawn = torch.cat([drawn, highest[torch.randperm(DEPTH, generator=generator)[:NUM_MINED]]])
            log_missed[highest] += log_missed_probability(torch.tensor(NUM_MINED / DEPTH), 1)
        items = torch.cat([targets, drawn]).unique()
        for corrected, total in mean.items():
            candidates = scores[items][:, None].clone().requires_grad_()
            inputs = LossInputs(
                queries_PD=torch.ones(NUM_EVENTS, 1, dtype=torch.float64),
                candidates_CD=candidates,
                targets_P=torch.searchsorted(items, targets),
                bias_C=None,
                rows_P=torch.zeros(NUM_EVENTS, dtype=torch.int64),
                seen_BS=torch.full((1, 1), -1),
                past_P=torch.zeros(NUM_EVENTS, dtype=torch.int64),
                log_q_C=log_complement(log_missed[items]),
            )
            LOSSES.load("sampled_softmax")(log_q=corrected).compute(inputs).backward()
            assert candidates.grad is not None
            total[items] += candidates.grad[:, 0] / NUM_BATCHES
    return mean


@pytest.mark.parametrize("kind", ["uniform", "popularity", "hard"])
def test_popular_items_are_not_pushed_down(kind: str) -> None:
    """Where scores are the log frequencies the full softmax has no gradient; a positive one pushes down."""
    mean = mean_gradient(frequencies().log(), kind)
    assert float(mean[False][:3].min()) > 0.01
    assert float(mean[True].abs().max()) < 0.01
    assert float(mean[True].norm()) < 0.25 * float(mean[False].norm())


@pytest.mark.parametrize("kind", ["uniform", "popularity", "hard"])
def test_the_gradient_is_that_of_the_full_softmax(kind: str) -> None:
    noise = torch.randn(NUM_ITEMS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = 0.5 * frequencies().log() + 0.7 * noise
    full = torch.softmax(scores, 0) - frequencies()
    mean = mean_gradient(scores, kind)
    gap = {corrected: float((gradient - full).norm()) for corrected, gradient in mean.items()}
    assert gap[True] < 0.1 * float(full.norm())
    assert gap[True] < 0.4 * gap[False]


def test_a_union_by_hand() -> None:
    # 1 - (1 - 1/2)^2 (1 - 1/4) = 13/16; what is drawn by nothing is not there.
    half, quarter = torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
    missed = log_missed_probability(half, 2) + log_missed_probability(quarter, 1)
    assert float(log_complement(missed).exp()) == pytest.approx(13 / 16)
    assert float(log_missed_probability(torch.zeros(1), 512)) == 0.0
    assert float(log_complement(log_missed_probability(torch.ones(1), 1))) == pytest.approx(0.0, abs=1e-6)
