"""What is measured: a recipe, the paths through it, and batches with the part of the data set that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peftrec.data import Dataset, Sequences, TrainingWindows, UserBatch
from peftrec.data.case import Cases
from peftrec.recipe import Recipe, load_recipe

# Path -> overrides of the recipe.
PATHS = {
    "lora_all": ("method.kind=lora", "method.layers=all"),
    "lora_top2": ("method.kind=lora", "method.layers=2"),
    "side": ("method.kind=side",),
    "full": ("method.kind=full",),
    "frozen": ("method.kind=frozen",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What every measurement of a run shares.

    Args:
        recipe: YAML file; its method and what `PATHS` names are replaced.
        overrides: `a.b=c`, over the recipe, before those of the path.
        history: inputs of a position, to which the target comes: a user has `history` + 1 positions.
        seed: of batches and weights.
        rounds: how often each thing is measured.
        graph_memory_mib: `training.graph_memory_mib` of our paths.
    """

    recipe: Path
    overrides: tuple[str, ...]
    history: int = 10
    seed: int = 0
    rounds: int = 3
    graph_memory_mib: int = 4096

    def load(self, *overrides: str) -> Recipe:
        """Return the recipe with all its overrides and the given ones, the loss over the items of the batch."""
        return load_recipe(self.recipe, self.words(*overrides))

    def words(self, *overrides: str) -> list[str]:
        """Return all overrides of the recipe, and the given ones behind them."""
        return [
            f"user.max_history={self.history}",
            "encoder.inputs=text",
            "loss.kind=in_batch_softmax",
            f"training.seed={self.seed}",
            f"training.graph_memory_mib={self.graph_memory_mib}",
            "optimizer.schedule=constant",
            "training.encoder_interval=1",
            *self.overrides,
            *overrides,
        ]


@dataclasses.dataclass(frozen=True)
class Workload:
    """Batches, and a data set that holds their users and items alone.

    Args:
        dataset: users of the batches with their training events, and the items of these; a step reads no others.
        batches: one a round; indexes are those of `dataset`.
    """

    dataset: Dataset
    batches: tuple[UserBatch, ...]


def make_workload(
    dataset: Dataset, recipe: Recipe, *, users: int, number: int, seed: int, num_items: int = 0
) -> Workload:
    """Draw batches as training does, and cut the data set down to what they need.

    So the catalogue need not be encoded whole for each path before its first step.

    Args:
        dataset: whole.
        recipe: says how windows are cut.
        users: of a batch.
        number: batches.
        seed: of the order of windows.
        num_items: other users are kept too, until the catalogue has so many items.
    Raises:
        ValueError: if the data set has too few windows.
    """
    windows = TrainingWindows(dataset, recipe.user.max_history, skip_repeats=recipe.loss.skip_repeats)
    if windows.num_windows < users * number:
        raise ValueError(f"{number} batches of {users} users were asked for, but there are {windows.num_windows}")
    epoch = windows.epoch(seed, 1, users)
    batches = [next(epoch) for _ in range(number)]
    kept_U = np.unique(np.concatenate([batch.users for batch in batches]))
    if num_items:
        kept_U = _more_users(dataset, kept_U, num_items)
    small, user_place, item_place = _cut(dataset, kept_U)
    return Workload(small, tuple(_moved(batch, user_place, item_place) for batch in batches))


def _more_users(dataset: Dataset, kept_U: NDArray[np.int64], num_items: int) -> NDArray[np.int64]:
    others = np.setdiff1d(np.arange(len(dataset.sequences)), kept_U)
    order = np.concatenate([kept_U, others])
    offsets, items = dataset.sequences.gather_flat(dataset.sequences.offsets[order], dataset.split.train_lengths[order])
    _, first = np.unique(items, return_index=True)
    if len(first) <= num_items:
        return np.sort(order)
    last_event = np.sort(first)[num_items - 1]
    enough = int(np.searchsorted(offsets[1:], last_event, side="right")) + 1
    return np.sort(order[: max(enough, len(kept_U))])


def _cut(dataset: Dataset, kept_U: NDArray[np.int64]) -> tuple[Dataset, NDArray[np.int64], NDArray[np.int64]]:
    """Return the data set of some users, and the new places of users and items (-1 for those left out)."""
    lengths = dataset.split.train_lengths[kept_U]
    offsets, events = dataset.sequences.gather_flat(dataset.sequences.offsets[kept_U], lengths)
    items = np.unique(events)
    user_place = _places(kept_U, len(dataset.sequences))
    item_place = _places(items, len(dataset.catalogue))
    catalogue = dataset.catalogue
    none = Cases(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    small = dataclasses.replace(
        dataset,
        catalogue=type(catalogue)(
            _taken(catalogue.ids, items), _taken(catalogue.texts, items), _taken(catalogue.titles, items)
        ),
        sequences=Sequences(_taken(dataset.sequences.user_ids, kept_U), offsets, item_place[events]),
        split=dataclasses.replace(dataset.split, train_lengths=lengths, valid=none, test=none, sequences=None),
        user_texts=None,
        event_words=None,
        item_attributes=None,
        user_attributes=None,
    )
    return small, user_place, item_place


def _taken(values: Sequence[str], places: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(values[place] for place in places.tolist())


def _places(kept: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    # One more place than there are values, so that -1 maps to -1.
    place = np.full(number + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    return place


def _moved(batch: UserBatch, user_place: NDArray[np.int64], item_place: NDArray[np.int64]) -> UserBatch:
    return dataclasses.replace(
        batch,
        users=user_place[batch.users],
        inputs=item_place[batch.inputs],
        targets=item_place[batch.targets],
        seen_items=item_place[batch.seen_items],
    )
