"""What every loss promises: it equals the plain formula, in value and gradient, whatever the chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from peftrec.losses import LOSSES, LossInputs, log_inclusion_probability

KINDS = LOSSES.kinds()
MASKS = ("past", "all", "none")


def naive(inputs: LossInputs, *, mask: str, log_q: bool) -> torch.Tensor:
    """The formula, one position after the other."""
    losses = []
    for place in range(len(inputs.queries_PD)):
        logits = inputs.candidates_CD @ inputs.queries_PD[place]
        if inputs.bias_C is not None:
            logits = logits + inputs.bias_C
        if log_q:
            assert inputs.log_q_C is not None
            logits = logits - inputs.log_q_C
        target = int(inputs.targets_P[place])
        seen = inputs.seen_BS[inputs.rows_P[place]].tolist()
        seen = {"past": seen[: int(inputs.past_P[place])], "all": seen, "none": []}[mask]
        kept = [c for c in range(len(logits)) if c == target or c not in seen]
        losses.append(torch.logsumexp(logits[kept], 0) - logits[target])
    return torch.stack(losses).mean()


# Every variant of every loss, with the formula it must equal. A new loss adds its lines here.
VARIANTS: dict[str, list[tuple[dict[str, Any], Callable[[LossInputs], torch.Tensor]]]] = {
    "full_softmax": [
        ({"mask_seen": mask}, lambda inputs, mask=mask: naive(inputs, mask=mask, log_q=False)) for mask in MASKS
    ],
    "in_batch_softmax": [
        ({"log_q": log_q}, lambda inputs, log_q=log_q: naive(inputs, mask="all", log_q=log_q))
        for log_q in (True, False)
    ],
}
CASES = [(kind, number) for kind in KINDS for number in range(len(VARIANTS[kind]))]


def make_inputs(seed: int = 0, *, bias: bool = True, dtype: torch.dtype = torch.float64) -> LossInputs:
    """Seven positions of three users among nine candidates; histories with repeats, gaps and padding."""
    generator = torch.Generator().manual_seed(seed)
    return LossInputs(
        queries_PD=torch.randn(7, 4, generator=generator, dtype=dtype).requires_grad_(),
        candidates_CD=torch.randn(9, 4, generator=generator, dtype=dtype).requires_grad_(),
        bias_C=torch.randn(9, generator=generator, dtype=dtype).requires_grad_() if bias else None,
        log_q_C=-torch.rand(9, generator=generator, dtype=dtype) * 3,
        # User 2 comes back to item 5, which is a target while it lies in the past.
        seen_BS=torch.tensor([[0, 1, 2, 3], [4, -1, 6, -1], [5, 8, 5, 7]]),
        targets_P=torch.tensor([1, 2, 3, 6, 8, 5, 7]),
        rows_P=torch.tensor([0, 0, 0, 1, 2, 2, 2]),
        past_P=torch.tensor([1, 2, 3, 2, 1, 2, 3]),
    )


def leaves(inputs: LossInputs) -> list[torch.Tensor]:
    return [tensor for tensor in (inputs.queries_PD, inputs.candidates_CD, inputs.bias_C) if tensor is not None]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_equals_the_formula_in_value_and_gradient(kind: str, variant: int, bias: bool) -> None:
    settings, formula = VARIANTS[kind][variant]
    inputs = make_inputs(bias=bias)
    expected = formula(inputs)
    gradients = torch.autograd.grad(expected, leaves(inputs))
    for max_logits in (1, 9, 18, 50, 8_000_000):
        found = LOSSES.load(kind)(**settings, max_logits=max_logits).compute(inputs)
        torch.testing.assert_close(found, expected)
        for gradient, wanted in zip(torch.autograd.grad(found, leaves(inputs)), gradients, strict=True):
            torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_gradcheck(kind: str, variant: int) -> None:
    inputs = make_inputs()
    loss = LOSSES.load(kind)(**VARIANTS[kind][variant][0], max_logits=20)

    def compute(queries: torch.Tensor, candidates: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        values = {"queries_PD": queries, "candidates_CD": candidates, "bias_C": bias}
        return 3 * loss.compute(dataclasses.replace(inputs, **values))

    assert torch.autograd.gradcheck(compute, leaves(inputs))


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_order_does_not_matter(kind: str, variant: int) -> None:
    loss = LOSSES.load(kind)(**VARIANTS[kind][variant][0], max_logits=20)
    inputs = make_inputs()
    expected = loss.compute(inputs)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    users = torch.tensor([2, 0, 1])
    shuffled = dataclasses.replace(
        inputs,
        queries_PD=inputs.queries_PD[order],
        targets_P=inputs.targets_P[order],
        rows_P=torch.argsort(users)[inputs.rows_P[order]],
        past_P=inputs.past_P[order],
        seen_BS=inputs.seen_BS[users],
    )
    torch.testing.assert_close(loss.compute(shuffled), expected)
    candidates = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    place = torch.argsort(candidates)
    assert inputs.bias_C is not None
    assert inputs.log_q_C is not None
    moved = dataclasses.replace(
        inputs,
        candidates_CD=inputs.candidates_CD[candidates],
        bias_C=inputs.bias_C[candidates],
        log_q_C=inputs.log_q_C[candidates],
        targets_P=place[inputs.targets_P],
        seen_BS=torch.where(inputs.seen_BS >= 0, place[inputs.seen_BS], -1),
    )
    torch.testing.assert_close(loss.compute(moved), expected)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e18])
@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_extreme_logits_stay_finite(kind: str, variant: int, size: float) -> None:
    loss = LOSSES.load(kind)(**VARIANTS[kind][variant][0])
    for sign in (1, -1):
        inputs = make_inputs(dtype=torch.float32)
        scaled = dataclasses.replace(inputs, queries_PD=(inputs.queries_PD.detach() * size * sign).requires_grad_())
        found = loss.compute(scaled)
        assert bool(torch.isfinite(found))
        for gradient in torch.autograd.grad(found, leaves(scaled)):
            assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_masked_items_get_no_gradient_and_the_target_does(kind: str, variant: int) -> None:
    settings = VARIANTS[kind][variant][0]
    inputs = make_inputs()
    one = dataclasses.replace(
        inputs,
        queries_PD=inputs.queries_PD[:1],
        targets_P=torch.tensor([1]),
        rows_P=torch.tensor([0]),
        past_P=torch.tensor([1]),
    )
    (gradient,) = torch.autograd.grad(LOSSES.load(kind)(**settings).compute(one), [inputs.candidates_CD])
    still = {c for c in range(9) if not bool(gradient[c].any())}
    mask = settings.get("mask_seen", "all")
    assert still == {"past": {0}, "all": {0, 2, 3}, "none": set()}[mask]


@pytest.mark.parametrize("kind", KINDS)
def test_no_position_is_an_error(kind: str) -> None:
    inputs = make_inputs()
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = dataclasses.replace(inputs, queries_PD=inputs.queries_PD[:0], targets_P=empty, rows_P=empty, past_P=empty)
    with pytest.raises(ValueError, match="without any position"):
        LOSSES.load(kind)().compute(nothing)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_masked_but_the_target_costs_nothing(kind: str) -> None:
    inputs = make_inputs()
    one = dataclasses.replace(
        inputs,
        queries_PD=inputs.queries_PD[:1],
        targets_P=torch.tensor([4]),
        rows_P=torch.tensor([0]),
        past_P=torch.tensor([9]),
        seen_BS=torch.arange(9)[None],
    )
    assert float(LOSSES.load(kind)().compute(one).detach()) == pytest.approx(0.0, abs=1e-12)


def test_log_q_has_the_right_sign() -> None:
    """Where scores are the log frequencies the full softmax has no gradient: in expectation neither has ours.

    Without the correction popular items, which are in every batch while the rare ones are in few, are pushed down.
    """
    num_items, num_draws, num_batches = 50, 40, 150
    frequencies = 1 / torch.arange(1, num_items + 1, dtype=torch.float64)
    frequencies /= frequencies.sum()
    scores = frequencies.log()
    generator = torch.Generator().manual_seed(0)
    mean = {True: torch.zeros(num_items, dtype=torch.float64), False: torch.zeros(num_items, dtype=torch.float64)}
    for _ in range(num_batches):
        drawn = torch.multinomial(frequencies, num_draws, replacement=True, generator=generator)
        items = drawn.unique()
        for corrected in (True, False):
            candidates = scores[items][:, None].clone().requires_grad_()
            inputs = LossInputs(
                queries_PD=torch.ones(num_draws, 1, dtype=torch.float64),
                candidates_CD=candidates,
                targets_P=torch.searchsorted(items, drawn),
                bias_C=None,
                rows_P=torch.zeros(num_draws, dtype=torch.int64),
                seen_BS=torch.full((1, 1), -1),
                past_P=torch.zeros(num_draws, dtype=torch.int64),
                log_q_C=log_inclusion_probability(frequencies[items], num_draws),
            )
            LOSSES.load("in_batch_softmax")(log_q=corrected).compute(inputs).backward()
            assert candidates.grad is not None
            mean[corrected][items] += candidates.grad[:, 0] / num_batches
    # A positive gradient pushes down.
    assert float(mean[False][:3].min()) > 0.01
    assert float(mean[True].abs().max()) < 0.01
    assert float(mean[True].norm()) < 0.25 * float(mean[False].norm())


def test_every_loss_has_its_formula_here() -> None:
    assert set(VARIANTS) == set(KINDS)
    assert all(LOSSES.load(kind).candidates in ("catalogue", "batch") for kind in KINDS)
