"""Augmented windows: what each operation does, that no target stands in its own history, and that off is off."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError, RecipeError
from peftrec.data import TrainingWindows, UserBatch
from peftrec.losses import LOSSES
from peftrec.training.augmentation import Augmenter, build_augmenter
from peftrec.training.augmentation_config import (
    AugmentationConfig,
    CropConfig,
    MaskConfig,
    ReorderConfig,
    SubstituteConfig,
)
from peftrec.training.candidates import _num_events
from peftrec.training.neighbour import nearest_items
from peftrec.training.step import plan_step

# Items 0 to 99 are events, one each; 100 to 199 are near to them, item 100 + i to item i.
NEAR = np.array([[100 + item, (item + 1) % 100] for item in range(100)] + [[-1, -1]] * 100)


def make_batch(*rows: tuple[int, int, int, int], kinds: bool = True) -> UserBatch:
    """Windows of users whose training events are items 20 * user, 20 * user + 1, ...

    A row is (user, training events, first input, inputs); all places have a target but the first one of long windows.
    """
    width = max(length for *_, length in rows)
    inputs, targets = np.full((2, len(rows), width), -1)
    for row, (user, _, start, length) in enumerate(rows):
        inputs[row, width - length :] = 20 * user + start + np.arange(length)
        targets[row, width - length :] = inputs[row, width - length :] + 1
        if length > 4:
            targets[row, width - length] = -1
    seen = [20 * user + np.arange(total) for user, total, *_ in rows]
    return UserBatch(
        users=np.array([user for user, *_ in rows]),
        inputs=inputs,
        targets=targets,
        starts=np.array([start for *_, start, _ in rows]),
        seen_offsets=np.cumsum([0, *map(len, seen)]),
        seen_items=np.concatenate(seen),
        events=np.where(inputs >= 0, inputs % 3, -1) if kinds else None,
    )


BATCH = make_batch((0, 15, 3, 10), (1, 5, 0, 4), (2, 12, 1, 8), (0, 15, 0, 3))


def always(**settings: Any) -> AugmentationConfig:
    kinds = {"crop": CropConfig, "mask": MaskConfig, "reorder": ReorderConfig, "substitute": SubstituteConfig}
    return AugmentationConfig(**{name: kinds[name](probability=1.0, **values) for name, values in settings.items()})


def augmented(config: AugmentationConfig, batch: UserBatch = BATCH, seed: int = 0) -> UserBatch:
    return Augmenter(config, 0, NEAR).augment(batch, np.random.default_rng(seed))


def rows_of(batch: UserBatch) -> list[list[int]]:
    return [row[row >= 0].tolist() for row in batch.inputs]


def test_crop_keeps_consecutive_inputs_and_their_targets() -> None:
    found = set()
    for seed in range(60):
        batch = augmented(always(crop={"ratio": 0.6}), seed=seed)
        assert [len(row) for row in rows_of(batch)] == [6, 2, 4, 1]
        for row in rows_of(batch):
            assert row == list(range(row[0], row[0] + len(row)))
        held = batch.targets >= 0
        assert (batch.targets[held] == batch.inputs[held] + 1).all()
        assert batch.inputs.shape == (4, 6)
        found.add(tuple(row[0] for row in rows_of(batch)))
    # Every place to begin at comes up; the window's own context has no target after a crop either.
    assert {starts[1] for starts in found} == {20, 21, 22}
    assert {starts[3] for starts in found} == {0, 1, 2}


def test_mask_leaves_out_inputs_and_closes_up() -> None:
    dropped: list[int] = []
    for seed in range(60):
        batch = augmented(always(mask={"ratio": 0.3}), seed=seed)
        assert [len(row) for row in rows_of(batch)] == [7, 3, 6, 3]
        assert all(row == sorted(row) for row in rows_of(batch))
        held = batch.targets >= 0
        assert (batch.targets[held] == batch.inputs[held] + 1).all()
        dropped += sorted(set(range(3, 13)) - set(rows_of(batch)[0]))
    assert set(dropped) == set(range(3, 13))


def test_reorder_shuffles_one_run_and_drops_the_targets_that_came_forward() -> None:
    moved = 0
    for seed in range(60):
        batch = augmented(always(reorder={"ratio": 0.5}), seed=seed)
        for row, before in zip(rows_of(batch), rows_of(BATCH), strict=True):
            assert sorted(row) == before
            places = [place for place in range(len(row)) if row[place] != before[place]]
            assert not places or places[-1] - places[0] < len(row) // 2
            moved += len(places)
        # The third place's target came forward where the fourth event stands among the first three, and so on.
        for row in range(len(batch)):
            for column in np.flatnonzero(BATCH.targets[row] >= 0):
                forward = BATCH.targets[row, column] in batch.inputs[row, : column + 1]
                later = batch.inputs[row, : column + 1].max() > BATCH.targets[row, column]
                expected = -1 if forward or later else BATCH.targets[row, column]
                assert batch.targets[row, column] == expected
    assert moved > 100


def test_substitutes_are_near_and_never_the_users_own() -> None:
    for seed in range(30):
        batch = augmented(always(substitute={"ratio": 0.5}), seed=seed)
        assert (batch.targets == BATCH.targets).all()
        changed = batch.inputs != BATCH.inputs
        # The other neighbour, the next item, is the user's own but for the newest of those who have no more.
        assert changed.sum(1).tolist() == [5, 2, 4, 1]
        assert (batch.inputs[changed] == BATCH.inputs[changed] + 100).all()
    alone = dataclasses.replace(BATCH, seen_offsets=np.array([0, 0, 0, 0, 0]), seen_items=np.empty(0, np.int64))
    drawn = {
        int(item) for seed in range(40) for item in augmented(always(substitute={"ratio": 1.0}), alone, seed).inputs[3]
    }
    assert drawn == {-1, 100, 101, 102, 1, 2, 3}


def test_an_item_without_neighbours_stays() -> None:
    lonely = Augmenter(always(substitute={"ratio": 1.0}), 0, np.full_like(NEAR, -1))
    assert (lonely.augment(BATCH, np.random.default_rng(0)).inputs == BATCH.inputs).all()


def test_kinds_go_with_items_and_times_stay_with_places() -> None:
    times = np.where(BATCH.inputs >= 0, 1000 + BATCH.inputs, -1)
    ratings = np.where(BATCH.inputs >= 0, BATCH.targets, np.nan).astype(np.float32)
    batch = dataclasses.replace(BATCH, times=times, ratings=ratings)
    config = always(mask={"ratio": 0.3}, reorder={"ratio": 0.6})
    for seed in range(20):
        found = Augmenter(config, 0).augment(batch, np.random.default_rng(seed))
        assert found.times is not None
        assert found.ratings is not None
        held = found.inputs >= 0
        assert found.events is not None
        assert (found.events == np.where(held, found.inputs % 3, -1)).all()
        assert all((np.diff(row[row >= 0]) > 0).all() for row in found.times)
        assert (found.times >= 0).tolist() == held.tolist()
        assert found.past is not None
        slots = found.past - 1 + 20 * found.users[:, None]
        assert (found.times[held] == 1000 + slots[held]).all()
        assert np.isnan(found.ratings[~held]).all()
        learned = found.targets >= 0
        assert (found.ratings[learned] == found.targets[learned]).all()


def test_a_window_that_would_lose_all_targets_stays_as_it_was() -> None:
    targets = np.full_like(BATCH.targets, -1)
    targets[:, -1] = BATCH.targets[:, -1]
    last = dataclasses.replace(BATCH, targets=targets)
    whole = 0
    for seed in range(30):
        batch = augmented(always(crop={"ratio": 0.5}, substitute={"ratio": 1.0}), last, seed)
        assert (batch.targets[:, -1] >= 0).all()
        for row, before in zip(rows_of(batch), rows_of(last), strict=True):
            if row[-1] == before[-1]:
                assert row == before
                whole += 1
            else:
                assert len(row) == max(1, len(before) // 2)
    assert 0 < whole < 120


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(2, 20), st.integers(0, 18)), min_size=1, max_size=5),
    ratios=st.tuples(*[st.floats(0.05, 0.95)] * 4),
    on=st.tuples(*[st.booleans()] * 4),
    seed=st.integers(0, 10_000),
)
def test_no_target_stands_in_its_own_history(
    rows: list[tuple[int, int, int]],
    ratios: tuple[float, float, float, float],
    on: tuple[bool, bool, bool, bool],
    seed: int,
) -> None:
    windows = [(user, total, start % (total - 1), 1 + (start * 7) % (total - 1 - start % (total - 1)))
               for user, total, start in rows]  # fmt: skip
    batch = make_batch(*windows)
    names = ("crop", "mask", "reorder", "substitute")
    config = always(**{name: {"ratio": ratio} for name, ratio, wanted in zip(names, ratios, on, strict=True) if wanted})
    found = augmented(config, batch, seed)
    held, learned = found.inputs >= 0, found.targets >= 0
    assert found.past is not None
    assert found.inputs.shape == found.targets.shape == found.past.shape
    assert held.any(1).all()
    assert held.any(0).all()
    assert (np.diff(held.astype(int), axis=1) >= 0).all()  # padding on the left alone
    assert held[learned].all()
    assert learned.any(1).all()
    for row, (user, total, start, length) in enumerate(windows):
        own = list(range(20 * user, 20 * user + total))
        places = found.past[row][held[row]]
        assert (np.diff(places) > 0).all()
        assert set(places.tolist()) <= set(range(start + 1, start + length + 1))
        for column in np.flatnonzero(learned[row]):
            target, before = found.targets[row, column], found.inputs[row, : column + 1]
            assert own[found.past[row, column]] == target
            assert target in batch.targets[row]
            assert target not in before
            # Nor is anything there that came after it: what is not older is nothing of the user's.
            assert all(item not in own or item < target for item in before[before >= 0].tolist())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), width=st.integers(1, 6))
def test_steps_see_the_right_past_and_count_the_right_events(seed: int, width: int) -> None:
    batch = make_batch((0, 15, 3, 10), (1, 5, 0, 4), (2, 12, 1, 8), (0, 15, 0, width))
    found = augmented(always(mask={"ratio": 0.3}, reorder={"ratio": 0.6}), batch, seed)
    counts = np.ones(200, dtype=np.int64)
    for one in (batch, found):
        plan = plan_step(one, LOSSES.load("full_softmax")(), counts)
        for row, column in zip(*np.nonzero(one.targets >= 0), strict=True):
            past = plan.seen_BS[row, : int(plan.past_BL[row, column])].tolist()
            target = int(one.targets[row, column])
            assert past == list(range(20 * int(one.users[row]), target))
        # An event is an item here, but for those that two windows of one user share.
        events = set(one.targets[one.targets >= 0].tolist()) | set(one.inputs[one.inputs >= 0].tolist())
        assert _num_events(one) == len(events)


def test_streams(toy_dataset: Any) -> None:
    windows = TrainingWindows(toy_dataset, 5)
    config = always(mask={"ratio": 0.3}, reorder={"ratio": 0.9})

    def epoch(seed: int, number: int) -> list[list[list[int]]]:
        batches = Augmenter(config, seed).epoch(windows.epoch(3, 4, 16), number)
        return [rows_of(batch) for batch in batches]

    assert epoch(0, 1) == epoch(0, 1)
    assert len({str(epoch(seed, number)) for seed, number in ((0, 1), (0, 2), (1, 1), (1, 0))}) == 4
    # A batch's draws are its own: they do not depend on how much was drawn before.
    batches = list(windows.epoch(3, 4, 16))
    doubled = [batches[0], batches[1], batches[1]]
    first, second, third = Augmenter(config, 0).epoch(doubled, 1)
    assert rows_of(first) == epoch(0, 1)[0]
    assert rows_of(second) == epoch(0, 1)[1] != rows_of(third)


def test_only_so_many_windows_are_changed() -> None:
    config = AugmentationConfig(crop=CropConfig(probability=0.25, ratio=0.5))
    changed = sum(
        len(row) < len(before)
        for seed in range(200)
        for row, before in zip(rows_of(augmented(config, seed=seed)), rows_of(BATCH), strict=True)
    )
    assert 150 < changed < 250


def test_nearest_items_by_hand() -> None:
    angles = torch.tensor([0.0, 10.0, 25.0, 180.0, 170.0, 90.0, 270.0]) * math.pi / 180
    # Evenly spread enough for whitening to keep who is near to whom.
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    everyone = np.ones(7, dtype=bool)
    found = nearest_items(vectors, everyone, 2)
    assert found[0, 0] == 1
    assert found[3, 0] == 4
    assert found[4, 0] == 3
    assert all(item not in row for item, row in enumerate(found.tolist()))
    without = nearest_items(vectors, ~np.isin(np.arange(7), [1, 4]), 3)
    assert not np.isin(without, [1, 4]).any()
    assert without[1, 0] in (0, 2)
    few = nearest_items(vectors, np.isin(np.arange(7), [0, 3]), 3)
    assert sorted(few[1].tolist()) == [-1, 0, 3]
    assert few[0].tolist() == [3, -1, -1]


def test_neighbours_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    import peftrec.training.neighbour as module

    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    whole = nearest_items(vectors, np.arange(40) % 3 > 0, 4)
    monkeypatch.setattr(module, "_MAX_SIMILARITIES", 1)
    assert (nearest_items(vectors, np.arange(40) % 3 > 0, 4) == whole).all()


def test_substitutes_have_training_events(toy_dataset: Any) -> None:
    counts = toy_dataset.item_counts()
    vectors = torch.randn(len(counts), 5, generator=torch.Generator().manual_seed(0))
    augmenter = build_augmenter(always(substitute={"ratio": 1.0}), 0, vectors, counts)
    assert augmenter is not None
    for batch in augmenter.epoch(TrainingWindows(toy_dataset, 5).epoch(0, 1, 16), 1):
        assert (counts[batch.inputs[batch.inputs >= 0]] > 0).all()


def test_what_is_refused(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    with pytest.raises(InputError, match="compares texts of items, but this model reads none"):
        build_augmenter(always(substitute={}), 0, None, toy_dataset.item_counts())
    with pytest.raises(RecipeError, match=r"training\.augmentation\.substitute: compares texts of items, but"):
        make_recipe("encoder.inputs=ids", "encoder.embedding_dim=16", "training.augmentation.substitute={}")
    for override, message in (
        ("training.augmentation.crop.ratio=1", r"training\.augmentation\.crop\.ratio: 1\.0 is out of range"),
        ("training.augmentation.mask.probability=0", r"mask\.probability: 0\.0 is out of range"),
        ("training.augmentation.insert={}", r"training\.augmentation\.insert: unknown key"),
    ):
        with pytest.raises(RecipeError, match=message):
            make_recipe(override)
    recipe = make_recipe("training.augmentation={crop: {ratio: 0.4}, substitute: {num_neighbours: 2}}")
    assert recipe.training.augmentation == AugmentationConfig(
        crop=CropConfig(ratio=0.4), substitute=SubstituteConfig(num_neighbours=2)
    )


def test_off_by_default(make_recipe: Callable[..., Any], prepare: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe()
    assert not recipe.training.augmentation.active
    assert build_augmenter(recipe.training.augmentation, 0, None, toy_dataset.item_counts()) is None
    assert prepare(recipe).trainer.augmenter is None


ALL = "training.augmentation={crop: {}, mask: {}, reorder: {}, substitute: {ratio: 0.5}}"


@pytest.mark.parametrize("loss", ["full_softmax", "in_batch_softmax"])
def test_training_goes_on_after_a_stop_as_if_there_were_none(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path, loss: str
) -> None:
    def trainer(folder: Path, *overrides: str) -> Any:
        recipe = make_recipe(f"loss.kind={loss}", "training.batch_users=20", "method.kind=frozen", *overrides)
        return prepare(recipe, folder=folder).trainer

    fixed = "optimizer.schedule=constant"
    losses = [row["loss"] for row in trainer(tmp_path / "whole", ALL, fixed).train().epochs]
    trainer(tmp_path / "part", ALL, fixed, "training.num_epochs=1").train()
    resumed = [row["loss"] for row in trainer(tmp_path / "part", ALL, fixed).train(resume=True).epochs]
    plain = [row["loss"] for row in trainer(tmp_path / "plain", fixed).train().epochs]
    assert resumed == losses
    assert all(math.isfinite(value) for value in losses)
    assert losses != plain
