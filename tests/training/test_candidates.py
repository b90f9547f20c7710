"""What a step encodes where negatives are drawn: which items, how likely each was, and what depends on what."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.build import build
from peftrec.config import parse_section
from peftrec.data import TrainingWindows
from peftrec.losses import LOSSES, log_inclusion_probability
from peftrec.training.planner import Planner
from peftrec.training.step import StepPlan, plan_step

IDS = ("encoder.inputs=ids", "encoder.embedding_dim=16", "encoder.id_std=1.0", "user.dropout=0.3")
SOURCES: dict[str, dict[str, Any]] = {
    "uniform": {"kind": "uniform", "num": 5},
    "popularity": {"kind": "popularity", "num": 5, "power": 0.75},
    "hard": {"kind": "hard", "num": 3, "per_user": 1, "depth": 4},
}


def make_loss(kind: str, **settings: Any) -> Any:
    return parse_section(LOSSES.load(kind), settings)


@pytest.fixture
def model(make_recipe: Callable[..., Any], toy_dataset: Any) -> Any:
    """A model of random ids, whose scores tell items apart; mining must not be touched by its dropout."""
    return build(make_recipe(*IDS), toy_dataset).model.train()


@pytest.fixture
def batch(toy_dataset: Any) -> Any:
    """Six users."""
    return next(TrainingWindows(toy_dataset, 4).epoch(0, 1, 6))


def plans(model: Any, dataset: Any, loss: Any, *, seed: int = 0, epoch: int = 1) -> list[StepPlan]:
    """The plans of one epoch."""
    planner = Planner(model, loss, dataset.item_counts(), seed)
    planner.start_epoch(epoch)
    return [planner.plan(batch) for batch in TrainingWindows(dataset, 4).epoch(0, 1, 6)]


@pytest.mark.parametrize("kind", SOURCES)
def test_each_item_once_and_none_that_nobody_has_touched(kind: str, model: Any, toy_dataset: Any) -> None:
    counts = toy_dataset.item_counts()
    assert (counts == 0).any()
    loss = make_loss("sampled_softmax", negatives=SOURCES[kind])
    batches = list(TrainingWindows(toy_dataset, 4).epoch(0, 1, 6))
    beside = 0
    for plan, batch in zip(plans(model, toy_dataset, loss), batches, strict=True):
        items = plan.items_C.numpy()
        assert sorted(set(items.tolist())) == items.tolist()
        assert (counts[items] > 0).all()
        own = set(batch.inputs[batch.inputs >= 0].tolist()) | set(batch.targets[batch.targets >= 0].tolist())
        assert own <= set(items.tolist())
        assert plan.negative_C is not None
        drawn = set(items[plan.negative_C.numpy()].tolist())
        assert own | drawn == set(items.tolist())
        beside += len(drawn - own)
        for places, expected in ((plan.inputs_BL, batch.inputs), (plan.targets_BL, batch.targets)):
            assert np.array_equal(np.where(places.numpy() >= 0, items[places.numpy().clip(0)], -1), expected)
        assert plan.log_q_C is not None
        assert bool((plan.log_q_C < 1e-6).all())
        assert plan.num_items == np.count_nonzero(counts)
    assert beside > 0


@pytest.mark.parametrize("kind", SOURCES)
def test_draws_depend_on_seed_epoch_and_batch_alone(kind: str, model: Any, toy_dataset: Any) -> None:
    loss = make_loss("bpr", negatives=SOURCES[kind], per_position=3)

    def drawn(**place: int) -> list[list[int]]:
        return [plan.items_C[plan.negative_C].tolist() for plan in plans(model, toy_dataset, loss, **place)]

    first = drawn()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert drawn() == first
    assert torch.equal(torch.get_rng_state(), state)  # the stream of training is left alone
    assert drawn(seed=1) != first
    assert drawn(epoch=2) != first
    assert len({tuple(items) for items in first}) > 1
    picks = [plan.picks_BLK for plan in plans(model, toy_dataset, loss)]
    again = [plan.picks_BLK for plan in plans(model, toy_dataset, loss)]
    for one, other in zip(picks, again, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_what_is_drawn_leaves_the_windows_alone(toy_dataset: Any, model: Any) -> None:
    losses = [make_loss("in_batch_softmax"), make_loss("sampled_softmax", negatives=SOURCES["uniform"])]
    one, other = (plans(model, toy_dataset, loss) for loss in losses)
    for batch, sampled in zip(one, other, strict=True):
        for name in ("inputs_BL", "targets_BL"):
            places, drawn = getattr(batch, name), getattr(sampled, name)
            assert torch.equal(places >= 0, drawn >= 0)
            assert torch.equal(batch.items_C[places][places >= 0], sampled.items_C[drawn][drawn >= 0])


def test_the_probability_of_the_union_by_hand(model: Any, toy_dataset: Any, batch: Any) -> None:
    counts = toy_dataset.item_counts()
    loss = make_loss("sampled_softmax", negatives=SOURCES["popularity"])
    planner = Planner(model, loss, counts, 0)
    planner.start_epoch(1)
    plan = planner.plan(batch)
    events = {
        (int(batch.users[row]), int(batch.starts[row]) + place)
        for row in range(len(batch))
        for place in range(int((batch.inputs[row] >= 0).sum()) + int(batch.targets[row, -1] >= 0))
    }
    powers = counts**0.75 / (counts**0.75).sum()
    assert plan.log_q_C is not None
    for item, found in zip(plan.items_C.tolist(), plan.log_q_C.tolist(), strict=True):
        missed = (1 - counts[item] / counts.sum()) ** len(events) * (1 - powers[item]) ** 5
        assert found == pytest.approx(math.log(1 - missed), rel=1e-4)
    # Without draws it is what the batch gives.
    alone = plan_step(batch, make_loss("in_batch_softmax"), counts)
    frequencies = torch.from_numpy(counts[alone.items_C.numpy()] / counts.sum())
    assert alone.log_q_C is not None
    assert torch.equal(alone.log_q_C, log_inclusion_probability(frequencies, len(events)).float())


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_said_to_be_missed_is_missed_so_often(kind: str, model: Any, toy_dataset: Any, batch: Any) -> None:
    counts = toy_dataset.item_counts()
    planner = Planner(model, make_loss("sampled_softmax", negatives=SOURCES[kind]), counts, 0)
    assert planner._sampler is not None
    tries, there = 600, np.zeros(len(counts))
    said = None
    for number in range(tries):
        drawn = planner._sampler.draw(batch, number + 2, np.random.default_rng(number))
        there[drawn.items] += 1 / tries
        said = drawn.log_missed_N
    assert said is not None
    assert there == pytest.approx(1 - np.exp(said), abs=4 * 0.5 / math.sqrt(tries))
    assert there.max() - there[counts > 0].min() > 0.1 or kind == "uniform"


def highest(model: Any, dataset: Any, batch: Any, row: int) -> list[int]:
    """The items by their score for one row, best first, without those seen and those without events."""
    model.eval()
    vectors, bias = model.encode_catalogue()
    scores = model.scores(torch.from_numpy(batch.inputs[row : row + 1]), vectors, bias)[0]
    model.train()
    seen = set(batch.seen_items[batch.seen_offsets[row] : batch.seen_offsets[row + 1]].tolist())
    ranked = scores.argsort(descending=True).tolist()
    return [item for item in ranked if item not in seen and dataset.item_counts()[item] > 0]


def test_mined_are_the_highest_that_the_user_has_not_seen(
    model: Any, toy_dataset: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {item for row in range(6) for item in highest(model, toy_dataset, batch, row)[:2]}
    top = {"kind": "hard", "num": 0, "per_user": 2, "depth": 2}
    planner = Planner(model, make_loss("bpr", negatives=top), toy_dataset.item_counts(), 0)
    for scores_at_a_time in (8_000_000, 100):  # two users at a time
        monkeypatch.setattr("peftrec.training.negative_sampler._MAX_SCORES", scores_at_a_time)
        planner.start_epoch(1)
        plan = planner.plan(batch)
        assert set(plan.items_C[plan.negative_C].tolist()) == expected
        # They are there for certain: nothing is to be corrected.
        assert plan.log_q_C is not None
        assert plan.log_q_C[plan.negative_C].numpy() == pytest.approx(0.0, abs=1e-5)
    assert model.training


def test_mined_come_from_no_deeper_than_asked(model: Any, toy_dataset: Any, batch: Any) -> None:
    allowed = {item for row in range(6) for item in highest(model, toy_dataset, batch, row)[:4]}
    planner = Planner(model, make_loss("bpr", negatives=SOURCES["hard"] | {"num": 0}), toy_dataset.item_counts(), 0)
    found: set[int] = set()
    for epoch in range(40):
        planner.start_epoch(epoch)
        plan = planner.plan(batch)
        mined = plan.items_C[plan.negative_C].tolist()
        assert 1 <= len(mined) <= 6  # one a user
        found |= set(mined)
    assert found == allowed


def test_a_user_who_has_seen_everything_has_nothing_mined(model: Any, toy_dataset: Any, batch: Any) -> None:
    trained = np.flatnonzero(toy_dataset.item_counts())
    seen = np.concatenate([trained[1:], *(trained for _ in range(5))])
    lengths = [0, len(trained) - 1, *(len(trained) for _ in range(5))]
    sated = dataclasses.replace(batch, seen_items=seen, seen_offsets=np.cumsum(lengths))
    loss = make_loss("bpr", negatives=SOURCES["hard"] | {"num": 0, "depth": 100})
    planner = Planner(model, loss, toy_dataset.item_counts(), 0)
    planner.start_epoch(1)
    plan = planner.plan(sated)
    assert plan.items_C[plan.negative_C].tolist() == [trained[0]]
    nothing = dataclasses.replace(
        sated,
        seen_items=np.concatenate([trained[:1], seen]),
        seen_offsets=np.cumsum([0, *(len(trained) for _ in range(6))]),
    )
    picking = dataclasses.replace(loss, per_position=2)
    planner = Planner(model, picking, toy_dataset.item_counts(), 0)
    planner.start_epoch(1)
    plan = planner.plan(nothing)
    assert plan.negative_C is not None
    assert not bool(plan.negative_C.any())
    assert plan.picks_BLK is not None
    assert bool((plan.picks_BLK == -1).all())


@pytest.mark.parametrize(("interval", "expected"), [(None, [1, 1]), (1, [4, 4]), (3, [2, 2])])
def test_the_table_is_refreshed_as_often_as_asked(
    interval: int | None,
    expected: list[int],
    model: Any,
    toy_dataset: Any,
    batch: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    plain = model.encode_catalogue
    monkeypatch.setattr(model, "encode_catalogue", lambda: made.append(1) or plain())
    negatives = SOURCES["hard"] | {"refresh_batches": interval}
    planner = Planner(model, make_loss("bpr", negatives=negatives), toy_dataset.item_counts(), 0)
    found = []
    for epoch in (1, 2):
        planner.start_epoch(epoch)
        made.clear()
        for _ in range(4):
            planner.plan(batch)
        found.append(len(made))
    assert found == expected


@pytest.mark.parametrize("kind", ["uniform", "batch", "catalogue"])
def test_picks_are_among_the_negatives_of_the_step(kind: str, model: Any, toy_dataset: Any, batch: Any) -> None:
    loss = make_loss("bce", negatives=SOURCES.get(kind, {"kind": kind}), per_position=7)
    planner = Planner(model, loss, toy_dataset.item_counts(), 0)
    planner.start_epoch(1)
    plan = planner.plan(batch)
    assert plan.picks_BLK is not None
    assert plan.picks_BLK.shape == (*batch.targets.shape, 7)
    allowed = torch.arange(len(plan.items_C))
    if kind == "uniform":
        assert plan.negative_C is not None
        allowed = allowed[plan.negative_C]
    assert set(plan.picks_BLK.flatten().tolist()) == set(allowed.tolist())
