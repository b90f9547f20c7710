"""Users a step: by hand, against batches as they come, and in a run."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import TrainingWindows, load_dataset
from peftrec.encoders.gradient_cache import _saved_bytes
from peftrec.losses import LOSSES
from peftrec.models import USER_ENCODERS
from peftrec.recipe import load_recipe
from peftrec.run import train
from peftrec.training import TrainingConfig
from peftrec.training.batch_plan import BatchPlan, ItemsPerBatch, StepMemory, plan_batches
from peftrec.training.negative_sampler import NegativeSampler

SMALL = StepMemory(place_bytes=1, item_bytes=1)


def loss_of(kind: str, **settings: Any) -> Any:
    return parse_section(LOSSES.load(kind), settings)


class Windows:
    """Three users with windows of two items each; item 0 is in all, item 3 in none."""

    num_windows = 3
    inputs = np.array([[-1, 0], [-1, 0], [0, 0]])
    targets = np.array([[-1, 1], [-1, 2], [-1, 2]])

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Any:
        yield self

    def num_batches(self, batch_size: int) -> int:
        return math.ceil(3 / batch_size)


COUNTS = np.array([4, 1, 2, 0])


def test_expected_items_by_hand() -> None:
    """Item 1 is in one of three windows, item 2 in two: two windows miss item 1 with 1/3, item 2 never."""
    windows: Any = Windows()
    batch = ItemsPerBatch(windows, COUNTS, loss_of("in_batch_softmax"), 0)
    assert (batch.num_items, batch.mean_places, batch.mean_pairs) == (3, pytest.approx(4 / 3), pytest.approx(6 / 3))
    assert [batch.expected(users) for users in (1, 2, 3, 9)] == pytest.approx([1 + 1 / 3 + 2 / 3, 2 + 2 / 3, 3, 3])
    catalogue = ItemsPerBatch(windows, COUNTS, loss_of("full_softmax"), 0)
    assert [catalogue.expected(users) for users in (1, 3)] == [3, 3]
    # Two uniform draws among three items miss each with 4/9.
    drawn = loss_of("sampled_softmax", negatives={"kind": "uniform", "num": 2})
    assert ItemsPerBatch(windows, COUNTS, drawn, 0).expected(1) == pytest.approx(
        1 + (1 - 2 / 3 * 4 / 9) + (1 - 1 / 3 * 4 / 9), abs=1e-5
    )


def test_expected_items_are_the_mean_over_all_batches() -> None:
    """Every way of drawing b of seven windows, counted out."""
    random = np.random.default_rng(0)
    rows = [set(random.integers(0, 9, size=3).tolist()) for _ in range(7)]
    windows: Any = Windows()
    windows.num_windows = 7
    windows.inputs = np.array([sorted(row) + [-1] * (3 - len(row)) for row in rows])
    windows.targets = np.full((7, 1), -1)
    batch = ItemsPerBatch(windows, np.ones(9, dtype=np.int64), loss_of("in_batch_softmax"), 0)
    for users in range(1, 8):
        sizes = [len(set().union(*chosen)) for chosen in itertools.combinations(rows, users)]
        assert batch.expected(users) == pytest.approx(np.mean(sizes))


def planned(windows: Any, counts: Any, loss: Any, memory: StepMemory = SMALL, **settings: Any) -> BatchPlan:
    encodes = settings.pop("encodes", True)
    training = TrainingConfig(batch_users="auto", **settings)
    return plan_batches(windows, counts, loss, training, memory, encodes=encodes)


class Many:
    """A thousand windows of one item each, all different."""

    num_windows = 1000

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Any:
        yield dataclasses.make_dataclass("Batch", ["inputs", "targets"])(
            np.arange(1000)[:, None], np.full((1000, 1), -1)
        )

    def num_batches(self, batch_size: int) -> int:
        return math.ceil(1000 / batch_size)


MANY: Any = Many()
ONES = np.ones(1000, dtype=np.int64)


def test_plans_by_hand() -> None:
    full = planned(MANY, ONES, loss_of("full_softmax"), encodings=5)
    assert (full.batch_users, full.accumulation_steps, full.steps, full.tables) == (200, 1, 5, 5)
    assert full.items_an_epoch == 5000
    assert full.describe() == (
        "batches: 200 users a step, 5 steps an epoch; 1,000 of 1,000 items encoded 5 times an epoch, 5,000 in all, "
        "each 5.0 times on average, and once more on the way back where graphs do not fit training.graph_memory_mib "
        "(training.encodings is 5)"
    )
    # One table serves three steps, so that there may be three times as many.
    tables = planned(MANY, ONES, loss_of("full_softmax"), encodings=5, encoder_interval=3)
    assert (tables.steps, tables.tables) == (15, 5)
    # No item is in two windows: batches encode each once however small they are.
    batch = planned(MANY, ONES, loss_of("in_batch_softmax"), encodings=1)
    assert (batch.batch_users, batch.steps) == (67, 15)
    assert batch.items_an_epoch == pytest.approx(1000)
    frozen = planned(MANY, ONES, loss_of("full_softmax"), encodes=False)
    assert (frozen.batch_users, frozen.steps, frozen.items_an_epoch) == (250, 4, 0)
    assert frozen.describe() == "batches: 250 users a step, 4 steps an epoch (no text is encoded in training)"


def test_what_does_not_fit_is_accumulated_over_one_table() -> None:
    """30 places of 2**14 bytes and 1,000 items of 2**9 fit into a MiB; 200 users make the step all the same."""
    memory = StepMemory(place_bytes=2**14, item_bytes=2**9)
    full = planned(MANY, ONES, loss_of("full_softmax"), memory, encodings=5, batch_memory_mib=1)
    assert (full.batch_users, full.accumulation_steps, full.steps) == (29, 7, 5)
    assert "203 users a step in 7 batches, 5 steps" in full.describe()
    assert "32 users fit into training.batch_memory_mib=1)" in full.describe()
    # A loss over the batch takes the batch that fits: accumulating would encode as often.
    batch = planned(MANY, ONES, loss_of("in_batch_softmax"), StepMemory(place_bytes=2**16, item_bytes=0),
                    encodings=1, batch_memory_mib=1)  # fmt: skip
    assert (batch.accumulation_steps, batch.batch_users) == (1, 16)
    # Pairs of places count beside them: users of one event each have one.
    pairs = StepMemory(place_bytes=2**15, pair_bytes=2**15, item_bytes=0)
    assert planned(MANY, ONES, loss_of("in_batch_softmax"), pairs, encodings=1, batch_memory_mib=1).batch_users == 16
    with pytest.raises(InputError, match=r"training\.batch_memory_mib is 1, but one user and the candidates take more"):
        planned(MANY, ONES, loss_of("full_softmax"), StepMemory(place_bytes=1, item_bytes=2**20), batch_memory_mib=1)


@pytest.mark.parametrize(("encodings", "interval"), [(1.0, 1), (3.0, 1), (12.0, 1), (12.0, 4)])
@pytest.mark.parametrize("kind", ["full_softmax", "in_batch_softmax", "sampled_softmax"])
def test_the_fewest_users_that_keep_to_the_setting(
    kind: str, encodings: float, interval: int, toy_dataset: Any
) -> None:
    loss = loss_of(kind)
    windows, counts = TrainingWindows(toy_dataset, 2), toy_dataset.item_counts()
    plan = planned(windows, counts, loss, encodings=encodings, encoder_interval=interval)
    assert plan.items_an_epoch <= encodings * plan.num_items * 1.001
    assert plan.steps == windows.num_batches(plan.batch_users)
    least = min(64, windows.num_windows)
    assert plan.batch_users >= least
    more = math.ceil(windows.num_windows / (plan.steps + 1))
    if more >= least:
        tables = max(1, round((plan.steps + 1) / interval))
        count = ItemsPerBatch(windows, counts, loss, 0)
        assert count.an_epoch(more, tables=tables) > encodings * plan.num_items


@functools.cache
def read(path: str, root: str) -> Any:
    return load_dataset(load_recipe(path, [f"data.root={root}"]).data)


def realised(windows: TrainingWindows, counts: Any, loss: Any, batch_users: int) -> float:
    """The mean number of distinct items over the batches of three epochs, the last batch of each left out."""
    sampler: Any = None
    if loss.candidates == "sampled":
        sampler = NegativeSampler(loss.source, None, counts)  # type: ignore[arg-type]
    sizes = []
    for epoch in range(1, 4):
        for number, batch in enumerate(windows.epoch(5, epoch, batch_users), start=1):
            items = np.concatenate([batch.inputs[batch.inputs >= 0], batch.targets[batch.targets >= 0]])
            if sampler is not None:
                drawn = sampler.draw(batch, number, np.random.default_rng([epoch, number]))
                items = np.concatenate([items, drawn.items])
            if len(batch) == batch_users:
                sizes.append(len(np.unique(items)))
    return float(np.mean(sizes))


@pytest.mark.parametrize("kind", ["in_batch_softmax", "sampled_softmax"])
@pytest.mark.parametrize(
    ("recipe", "max_history", "batches"),
    [
        pytest.param("ml100k/minilm_frozen.yaml", 20, (32, 128, 512), id="ml100k"),
        pytest.param("amazon_beauty/minilm_frozen_ids.yaml", 20, (64, 256, 2048), id="beauty"),
    ],
)
def test_expected_items_are_those_of_real_batches(
    recipe: str, max_history: int, batches: tuple[int, ...], kind: str, shared_data: Path
) -> None:
    path = Path(__file__).parent.parent.parent / "recipes" / recipe
    try:
        dataset = read(str(path), str(shared_data))
    except InputError as error:
        pytest.skip(str(error))
    counts, loss = dataset.item_counts(), loss_of(kind)
    windows = TrainingWindows(dataset, max_history)
    expected = ItemsPerBatch(windows, counts, loss, 0)
    for users in batches:
        assert expected.expected(users) == pytest.approx(realised(windows, counts, loss, users), rel=0.02), users


# Settings that make graphs larger, tried on every kind that has them.
LARGER = (
    {},
    {"time_intervals": True},
    {"time_intervals": True, "positions": "none", "num_layers": 3},
    {"positions": "none"},
    {"feedforward": 16},
    {"num_layers": 3},
    {"num_heads": 8},
    {"num_heads": 8, "pooling": "multi_head"},
    {"state_dim": 256, "num_layers": 3},
)


def user_encoders() -> list[Any]:
    """Every kind with the settings that it has."""
    found = []
    for kind in USER_ENCODERS.kinds():
        section = USER_ENCODERS.load(kind)
        fields = {field.name for field in dataclasses.fields(section)}
        for settings in LARGER:
            if settings.keys() <= fields and not (kind == "attention" and settings == {"num_heads": 8}):
                found += [pytest.param(section(**settings), id=f"{kind} {settings}")]
    return found


@pytest.mark.parametrize("length", [20, 200])
@pytest.mark.parametrize("user", user_encoders())
def test_memory_of_histories_is_what_the_encoder_says(user: Any, length: int) -> None:
    user = dataclasses.replace(user, max_history=length)
    encoder = user.build(64)
    lengths = torch.arange(length // 20, length + 1, length // 20).repeat(4)
    valid = torch.arange(length) >= length - lengths[:, None]
    items = torch.randn(len(lengths), length, 64, requires_grad=True)
    times = (torch.arange(length).repeat(len(lengths), 1) * 60_000,) if user.needs_times else ()
    known = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    with _saved_bytes(known) as saved:
        encoder.train()(items, valid, *times)
    memory = StepMemory.of(user, 64)
    estimate = int(lengths.sum()) * memory.place_bytes + int((lengths**2).sum()) * memory.pair_bytes
    assert (0 if user.kind == "mean" else 0.3 * estimate) < saved[0] < estimate


def test_a_run_stores_what_was_planned(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    said: list[str] = []
    recipe = make_recipe(
        "training.batch_users=auto", "training.num_epochs=1", "training.encodings=1", output_dir=tmp_path / "run"
    )
    metrics = train(recipe, report=said.append)
    (line,) = [line for line in said if line.startswith("batches: ")]
    assert line.startswith("batches: 60 users a step, 1 step an epoch; 36 of 36 items encoded once an epoch")
    assert metrics["training"]["num_steps"] == 1
    stored = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert (stored.training.batch_users, stored.training.accumulation_steps) == (60, 1)


def test_auto_chooses_accumulation_itself(make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match=r"training\.accumulation_steps: is chosen by batch_users: auto"):
        make_recipe("training.batch_users=auto", "training.accumulation_steps=2")
    with pytest.raises(
        RecipeError, match=r"training\.batch_users: .*out of range.* or .*'(many|0)'|training\.batch_users"
    ):
        make_recipe("training.batch_users=many")
