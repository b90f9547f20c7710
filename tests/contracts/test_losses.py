"""What every loss promises: it equals the plain formula, in value and gradient, whatever the chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from peftrec.config import parse_section
from peftrec.losses import LOSSES, LossConfig, LossInputs, log_inclusion_probability

KINDS = LOSSES.kinds()
MASKS = ("past", "all", "none")
CATALOGUE, BATCH = {"negatives": {"kind": "catalogue"}}, {"negatives": {"kind": "batch"}}


def logits_of(inputs: LossInputs, place: int) -> torch.Tensor:
    """The scores of all candidates at a position."""
    logits = inputs.candidates_CD @ inputs.queries_PD[place]
    return logits if inputs.bias_C is None else logits + inputs.bias_C


def own_items(inputs: LossInputs, place: int) -> list[int]:
    """The candidates that the user of a position has training events with, in order of time."""
    own: list[int] = inputs.seen_BS[inputs.rows_P[place]].tolist()
    return own


def negatives_of(inputs: LossInputs, place: int) -> list[int]:
    """The negatives of a position, each as often as it counts."""
    allowed = list(range(len(inputs.candidates_CD)))
    if inputs.picks_PK is not None:
        allowed = inputs.picks_PK[place].tolist()
    elif inputs.negative_C is not None:
        allowed = inputs.negative_C.nonzero()[:, 0].tolist()
    return [c for c in allowed if c not in (-1, int(inputs.targets_P[place]), *own_items(inputs, place))]


def mean_over_positions(inputs: LossInputs, formula: Callable[[torch.Tensor, int, int], torch.Tensor]) -> torch.Tensor:
    """The mean of a formula of logits, target and place."""
    places = range(len(inputs.queries_PD))
    return torch.stack([formula(logits_of(inputs, p), int(inputs.targets_P[p]), p) for p in places]).mean()


def softmax(inputs: LossInputs, *, mask: str, log_q: bool) -> torch.Tensor:
    def formula(logits: torch.Tensor, target: int, place: int) -> torch.Tensor:
        if log_q:
            assert inputs.log_q_C is not None
            logits = logits - inputs.log_q_C
        own = own_items(inputs, place)
        masked = {"past": own[: int(inputs.past_P[place])], "all": own, "none": []}[mask]
        kept = [c for c in range(len(logits)) if c == target or c not in masked]
        return torch.logsumexp(logits[kept], 0) - logits[target]

    return mean_over_positions(inputs, formula)


def bpr(inputs: LossInputs) -> torch.Tensor:
    def formula(logits: torch.Tensor, target: int, place: int) -> torch.Tensor:
        pairs = [-torch.sigmoid(logits[target] - logits[n]).log() for n in negatives_of(inputs, place)]
        return torch.stack(pairs).mean() if pairs else 0 * logits[target]

    return mean_over_positions(inputs, formula)


def bce(inputs: LossInputs, calibration: float = 0.0) -> torch.Tensor:
    def formula(logits: torch.Tensor, target: int, place: int) -> torch.Tensor:
        negatives = negatives_of(inputs, place)
        assert inputs.num_items is not None
        beta = 1.0
        if calibration and negatives:
            alpha = len(negatives) / (inputs.num_items - 1)
            beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
        elif calibration:
            beta = 1 - calibration
        terms = [(torch.sigmoid(logits[target]) ** beta).log()]
        terms += [(1 - torch.sigmoid(logits[n])).log() for n in negatives]
        return -torch.stack(terms).sum() / (len(negatives) + 1)

    return mean_over_positions(inputs, formula)


def squared_error(inputs: LossInputs, l2: float, mean_rating: float) -> torch.Tensor:
    def formula(logits: torch.Tensor, target: int, place: int) -> torch.Tensor:
        assert inputs.ratings_P is not None
        lengths = (inputs.queries_PD[place] ** 2).sum() + (inputs.candidates_CD[target] ** 2).sum()
        return (logits[target] + mean_rating - inputs.ratings_P[place]) ** 2 + l2 * lengths

    return mean_over_positions(inputs, formula)


def over_negatives(
    formula: Callable[[LossInputs], torch.Tensor], **settings: Any
) -> list[tuple[dict[str, Any], Callable[[LossInputs], torch.Tensor]]]:
    """The variants of a loss over negatives, by where they come from."""
    sources: list[dict[str, Any]] = [{}, BATCH, CATALOGUE, {"per_position": 3}, CATALOGUE | {"per_position": 3}]
    return [(source | settings, formula) for source in sources]


# Every variant of every loss, with the formula it must equal. A new loss adds its lines here.
VARIANTS: dict[str, list[tuple[dict[str, Any], Callable[[LossInputs], torch.Tensor]]]] = {
    "full_softmax": [
        ({"mask_seen": mask}, lambda inputs, mask=mask: softmax(inputs, mask=mask, log_q=False)) for mask in MASKS
    ],
    "in_batch_softmax": [
        ({"log_q": log_q}, lambda inputs, log_q=log_q: softmax(inputs, mask="all", log_q=log_q))
        for log_q in (True, False)
    ],
    "sampled_softmax": [
        ({"log_q": log_q}, lambda inputs, log_q=log_q: softmax(inputs, mask="all", log_q=log_q))
        for log_q in (True, False)
    ],
    "bpr": over_negatives(bpr),
    "bce": over_negatives(bce),
    "gbce": [*over_negatives(lambda inputs: bce(inputs, 0.75)), *over_negatives(bce, calibration=0.0)],
    "squared_error": [
        ({"l2": l2, "mean_rating": mean}, lambda inputs, l2=l2, mean=mean: squared_error(inputs, l2, mean))
        for l2, mean in ((0.0, 0.0), (0.1, 3.5))
    ],
}
CASES = [(kind, number) for kind in KINDS for number in range(len(VARIANTS[kind]))]


def make_loss(kind: str, **settings: Any) -> LossConfig:
    """Read the loss as a recipe would."""
    loss: LossConfig = parse_section(LOSSES.load(kind), settings)
    return loss


def chunked(kind: str, max_logits: int) -> dict[str, int]:
    """The setting that bounds the memory, where the loss has it."""
    return {"max_logits": max_logits} if hasattr(LOSSES.load(kind)(), "max_logits") else {}


def make_inputs(
    loss: LossConfig, seed: int = 0, *, bias: bool = True, dtype: torch.dtype = torch.float64
) -> LossInputs:
    """Seven positions of three users among nine candidates; histories with repeats, gaps and padding.

    They hold what a step hands to this loss, and nothing else.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = LossInputs(
        queries_PD=torch.randn(7, 4, generator=generator, dtype=dtype).requires_grad_(),
        candidates_CD=torch.randn(9, 4, generator=generator, dtype=dtype).requires_grad_(),
        bias_C=torch.randn(9, generator=generator, dtype=dtype).requires_grad_() if bias else None,
        log_q_C=-torch.rand(9, generator=generator, dtype=dtype) * 3,
        # User 2 comes back to item 5, which is a target while it lies in the past.
        seen_BS=torch.tensor([[0, 1, 2, 3], [4, -1, 6, -1], [5, 8, 5, 7]]),
        targets_P=torch.tensor([1, 2, 3, 6, 8, 5, 7]),
        rows_P=torch.tensor([0, 0, 0, 1, 2, 2, 2]),
        past_P=torch.tensor([1, 2, 3, 2, 1, 2, 3]),
        negative_C=torch.tensor([True, True, False, True, True, False, True, True, True]),
        # Some pick an item twice, an own one, the target, or nothing at all that counts.
        picks_PK=torch.tensor([[4, 4, 7], [0, 6, 8], [3, 2, 1], [0, 3, 6], [1, -1, 1], [-1, -1, -1], [0, 1, 2]]),
        ratings_P=torch.tensor([1.0, 5.0, 3.0, 4.0, 2.5, 4.5, 1.0], dtype=dtype),
        num_items=30,
    )
    return dataclasses.replace(
        inputs,
        log_q_C=None if loss.candidates == "catalogue" else inputs.log_q_C,
        negative_C=inputs.negative_C if loss.candidates == "sampled" else None,
        picks_PK=None if loss.num_picks is None else inputs.picks_PK,
        ratings_P=inputs.ratings_P if loss.needs_ratings else None,
    )


def one_position(inputs: LossInputs, target: int, past: int) -> LossInputs:
    """The first position alone, with another target."""
    return dataclasses.replace(
        inputs,
        queries_PD=inputs.queries_PD[:1],
        targets_P=torch.tensor([target]),
        rows_P=torch.tensor([0]),
        past_P=torch.tensor([past]),
        picks_PK=None if inputs.picks_PK is None else torch.tensor([[4, 2, 7]]),
        ratings_P=None if inputs.ratings_P is None else inputs.ratings_P[:1],
    )


def leaves(inputs: LossInputs) -> list[torch.Tensor]:
    return [tensor for tensor in (inputs.queries_PD, inputs.candidates_CD, inputs.bias_C) if tensor is not None]


def gradients_of(value: torch.Tensor, inputs: LossInputs) -> list[torch.Tensor]:
    """The gradients of all leaves, zeros where the value does not depend on one."""
    wanted = leaves(inputs)
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient for gradient, leaf in zip(found, wanted, strict=True)
    ]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_equals_the_formula_in_value_and_gradient(kind: str, variant: int, bias: bool) -> None:
    settings, formula = VARIANTS[kind][variant]
    inputs = make_inputs(make_loss(kind, **settings), bias=bias)
    expected = formula(inputs)
    gradients = gradients_of(expected, inputs)
    for max_logits in (1, 9, 18, 50, 8_000_000):
        found = make_loss(kind, **settings, **chunked(kind, max_logits)).compute(inputs)
        torch.testing.assert_close(found, expected)
        for gradient, wanted in zip(gradients_of(found, inputs), gradients, strict=True):
            torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_gradcheck(kind: str, variant: int) -> None:
    loss = make_loss(kind, **VARIANTS[kind][variant][0], **chunked(kind, 20))
    inputs = make_inputs(loss)

    def compute(queries: torch.Tensor, candidates: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        values = {"queries_PD": queries, "candidates_CD": candidates, "bias_C": bias}
        return 3 * loss.compute(dataclasses.replace(inputs, **values))

    assert torch.autograd.gradcheck(compute, leaves(inputs))


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_order_does_not_matter(kind: str, variant: int) -> None:
    loss = make_loss(kind, **VARIANTS[kind][variant][0], **chunked(kind, 20))
    inputs = make_inputs(loss)
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
        picks_PK=None if inputs.picks_PK is None else inputs.picks_PK[order],
        ratings_P=None if inputs.ratings_P is None else inputs.ratings_P[order],
    )
    torch.testing.assert_close(loss.compute(shuffled), expected)
    candidates = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    place = torch.argsort(candidates)

    def follow(places: torch.Tensor) -> torch.Tensor:
        return torch.where(places >= 0, place[places], -1)

    assert inputs.bias_C is not None
    moved = dataclasses.replace(
        inputs,
        candidates_CD=inputs.candidates_CD[candidates],
        bias_C=inputs.bias_C[candidates],
        log_q_C=None if inputs.log_q_C is None else inputs.log_q_C[candidates],
        negative_C=None if inputs.negative_C is None else inputs.negative_C[candidates],
        targets_P=place[inputs.targets_P],
        seen_BS=follow(inputs.seen_BS),
        picks_PK=None if inputs.picks_PK is None else follow(inputs.picks_PK),
    )
    torch.testing.assert_close(loss.compute(moved), expected)


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_padding_does_not_matter(kind: str, variant: int) -> None:
    """Neither do users without a position."""
    loss = make_loss(kind, **VARIANTS[kind][variant][0])
    inputs = make_inputs(loss)
    expected = loss.compute(inputs)
    wide = torch.full((3, 2), -1)
    nobody = torch.tensor([[0, 4, 8, 2, -1, -1]])
    padded = dataclasses.replace(
        inputs,
        seen_BS=torch.cat([torch.cat([inputs.seen_BS, wide], 1), nobody]),
        picks_PK=None if inputs.picks_PK is None else torch.cat([inputs.picks_PK, torch.full((7, 2), -1)], 1),
    )
    found = loss.compute(padded)
    torch.testing.assert_close(found, expected)
    for gradient, wanted in zip(gradients_of(found, inputs), gradients_of(expected, inputs), strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e18])
@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_extreme_logits_stay_finite(kind: str, variant: int, size: float) -> None:
    loss = make_loss(kind, **VARIANTS[kind][variant][0])
    for sign in (1, -1):
        inputs = make_inputs(loss, dtype=torch.float32)
        scaled = dataclasses.replace(inputs, queries_PD=(inputs.queries_PD.detach() * size * sign).requires_grad_())
        found = loss.compute(scaled)
        assert bool(torch.isfinite(found))
        for gradient in gradients_of(found, scaled):
            assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_masked_items_get_no_gradient_and_the_target_does(kind: str, variant: int) -> None:
    settings = VARIANTS[kind][variant][0]
    loss = make_loss(kind, **settings)
    inputs = one_position(make_inputs(loss), target=1, past=1)
    (gradient,) = torch.autograd.grad(loss.compute(inputs), [inputs.candidates_CD])
    still = {c for c in range(9) if not bool(gradient[c].any())}
    mask = settings.get("mask_seen", "all")
    masked = {"past": {0}, "all": {0, 2, 3}, "none": set()}[mask]
    assert masked <= still
    if kind.endswith("softmax"):
        assert still == masked
    elif kind == "squared_error":
        assert still == set(range(9)) - {1}
    else:
        assert still == set(range(9)) - {1, *negatives_of(inputs, 0)}
        assert len(still) < 8


@pytest.mark.parametrize("kind", KINDS)
def test_no_position_is_an_error(kind: str) -> None:
    loss = make_loss(kind)
    inputs = make_inputs(loss)
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = dataclasses.replace(inputs, queries_PD=inputs.queries_PD[:0], targets_P=empty, rows_P=empty, past_P=empty)
    with pytest.raises(ValueError, match="without any position"):
        loss.compute(nothing)


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_everything_masked_but_the_target(kind: str, variant: int) -> None:
    settings, formula = VARIANTS[kind][variant]
    loss = make_loss(kind, **settings)
    inputs = one_position(make_inputs(loss), target=4, past=9)
    inputs = dataclasses.replace(inputs, seen_BS=torch.arange(9)[None])
    found = float(loss.compute(inputs).detach())
    assert found == pytest.approx(float(formula(inputs).detach()))
    # There is nothing to set the target against.
    if (kind.endswith("softmax") and settings.get("mask_seen") != "none") or kind == "bpr":
        assert found == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_weights_of_one_change_nothing(kind: str, variant: int, dtype: torch.dtype) -> None:
    loss = make_loss(kind, **VARIANTS[kind][variant][0], **chunked(kind, 20))
    inputs = make_inputs(loss, dtype=dtype)
    plain = loss.compute(inputs)
    weighted = loss.compute(dataclasses.replace(inputs, weights_P=torch.ones(7)))
    # Sums may be taken in another order where a mean is one call.
    torch.testing.assert_close(weighted, plain, rtol=1e-6, atol=0)
    for found, wanted in zip(gradients_of(weighted, inputs), gradients_of(plain, inputs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
        assert kind == "squared_error" or torch.equal(found, wanted)


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_whole_weights_repeat_positions(kind: str, variant: int) -> None:
    """0 leaves a position out; what all weights share does not matter; no chunk does."""
    loss = make_loss(kind, **VARIANTS[kind][variant][0])
    inputs = make_inputs(loss)
    times = torch.tensor([2, 0, 1, 5, 1, 3, 1])
    repeated = dataclasses.replace(
        inputs,
        **{
            name: value.repeat_interleave(times, 0)
            for name in ("queries_PD", "targets_P", "rows_P", "past_P", "picks_PK", "ratings_P")
            if (value := getattr(inputs, name)) is not None
        },
    )
    expected = loss.compute(repeated)
    gradients = gradients_of(expected, inputs)
    assert abs(float(expected.detach()) - float(loss.compute(inputs).detach())) > 1e-4
    for scale in (1.0, 0.25):
        weighted = dataclasses.replace(inputs, weights_P=scale * times)
        for max_logits in (1, 18, 8_000_000):
            part = make_loss(kind, **VARIANTS[kind][variant][0], **chunked(kind, max_logits))
            found = part.compute(weighted)
            torch.testing.assert_close(found, expected)
            for gradient, wanted in zip(gradients_of(3 * found, inputs), gradients, strict=True):
                torch.testing.assert_close(gradient, 3 * wanted)


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_gradcheck_of_weighted_losses(kind: str, variant: int) -> None:
    loss = make_loss(kind, **VARIANTS[kind][variant][0], **chunked(kind, 20))
    inputs = make_inputs(loss)
    weights = torch.tensor([0.1, 3.0, 0.5, 1.0, 7.0, 0.2, 1.5], dtype=torch.float64)

    def compute(queries: torch.Tensor, candidates: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        values = {"queries_PD": queries, "candidates_CD": candidates, "bias_C": bias, "weights_P": weights}
        return 3 * loss.compute(dataclasses.replace(inputs, **values))

    assert torch.autograd.gradcheck(compute, leaves(inputs))


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
    assert all(LOSSES.load(kind)().candidates in ("catalogue", "batch", "sampled") for kind in KINDS)
