"""Windows of training events changed at random, so that one history teaches in several forms.

Shapes: B windows, L places, W places of the result, N items of the catalogue, K neighbours, S inputs of one window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import UserBatch
from peftrec.training.augmentation_config import AugmentationConfig
from peftrec.training.neighbour import nearest_items

# Sets this stream of random numbers apart from all others that begin with (seed, epoch, number).
_STREAM = 7411

Random = np.random.Generator
Integers = NDArray[np.int64]


@dataclasses.dataclass
class _Window:
    """The inputs of one window: arrays of shape (S,).

    Args:
        slots: columns of the batch that are still there; a slot keeps its target.
        sources: column of the event whose item now stands in each slot.
        items: that item, or its substitute.
    """

    slots: Integers
    sources: Integers
    items: Integers

    def keep(self, which: Any) -> None:
        self.slots, self.sources, self.items = self.slots[which], self.sources[which], self.items[which]


class Augmenter:
    """Changes the inputs of training windows; targets are those of the slots that are left.

    A masked input is not replaced but left out, and the rest closes up to the right: models see plain histories,
    padded on the left alone. Nobody's target is ever among the inputs that stand before it: where shuffling has brought
    the target's event forward, that place learns no target in this epoch, and a substitute is never one of the user's
    own training items. A window that would lose all its targets stays as it was.

    Which windows change, and how, depends on (seed, epoch, number of the batch) alone, in a stream of random numbers of
    its own: windows are cut and ordered as without augmentation.

    Args:
        config: what is done.
        seed: the run's.
        neighbours_NK: of each item, the items that may take its place, nearest first, -1 for none; None where nothing
            is substituted.
    Source:
        Xie et al. (2022), Contrastive Learning for Sequential Recommendation, sec. 3.2.3, for crop, mask and reorder;
        Liu et al. (2021), Contrastive Self-supervised Sequential Recommendation with Robust Augmentation, sec. 4.1, for
        substitution, with the likeness of texts in place of that of interactions. There the changed histories are views
        for a contrastive loss; here the next items are learned from them.
    """

    def __init__(self, config: AugmentationConfig, seed: int, neighbours_NK: Integers | None = None) -> None:
        assert config.substitute is None or neighbours_NK is not None, "substitution needs neighbours"
        self.config, self.seed, self._neighbours_NK = config, seed, neighbours_NK

    def epoch(self, batches: Iterable[UserBatch], epoch: int) -> Iterator[UserBatch]:
        """Yield the batches of an epoch, changed."""
        for number, batch in enumerate(batches):
            yield self.augment(batch, np.random.default_rng([self.seed, epoch, number, _STREAM]))

    def augment(self, batch: UserBatch, random: Random) -> UserBatch:
        """Return a batch with changed windows.

        Args:
            batch: of whole windows.
            random: all draws come from here.
        """
        past_BL = batch.past_events()
        windows, targets = [], []
        for row in range(len(batch)):
            slots = np.flatnonzero(batch.inputs[row] >= 0)
            whole = _Window(slots, slots, batch.inputs[row, slots])
            own = batch.seen_items[batch.seen_offsets[row] : batch.seen_offsets[row + 1]]
            window = self._change(dataclasses.replace(whole, items=whole.items.copy()), own, random)
            found = _targets(window, batch.targets[row], past_BL[row])
            if not (found >= 0).any():
                window, found = whole, batch.targets[row, slots]
            windows.append(window)
            targets.append(found)
        return _assemble(batch, past_BL, windows, targets)

    def _change(self, window: _Window, own: Integers, random: Random) -> _Window:
        config = self.config
        if config.crop is not None and random.random() < config.crop.probability:
            length = max(1, int(config.crop.ratio * len(window.slots)))
            start = int(random.integers(len(window.slots) - length, endpoint=True))
            window.keep(slice(start, start + length))
        if config.mask is not None and random.random() < config.mask.probability:
            count = int(config.mask.ratio * len(window.slots))
            window.keep(np.sort(random.permutation(len(window.slots))[count:]))
        if config.reorder is not None and random.random() < config.reorder.probability:
            length = int(config.reorder.ratio * len(window.slots))
            start = int(random.integers(len(window.slots) - length, endpoint=True))
            order = np.arange(len(window.slots))
            order[start : start + length] = random.permutation(order[start : start + length])
            window.sources, window.items = window.sources[order], window.items[order]
        if config.substitute is not None and random.random() < config.substitute.probability:
            count = int(config.substitute.ratio * len(window.slots))
            for place in random.permutation(len(window.slots))[:count]:
                window.items[place] = self._substitute(int(window.items[place]), own, random)
        return window

    def _substitute(self, item: int, own: Integers, random: Random) -> int:
        """Draw one of the item's neighbours that the user has never had; the item itself where there is none."""
        assert self._neighbours_NK is not None
        near_K = self._neighbours_NK[item]
        near_K = near_K[(near_K >= 0) & ~np.isin(near_K, own)]
        return int(random.choice(near_K)) if len(near_K) else item


def _targets(window: _Window, targets_L: Integers, past_L: Integers) -> Integers:
    """Return the targets of a window's slots, without those whose event already stands before them."""
    # `past` of a column is the place of its target among the user's events; its own event is the one before.
    newest = np.maximum.accumulate(past_L[window.sources] - 1)
    return np.where(newest < past_L[window.slots], targets_L[window.slots], -1)


def _assemble(batch: UserBatch, past_BL: Integers, windows: list[_Window], targets: list[Integers]) -> UserBatch:
    """Lay changed windows out as a batch, padded to its own longest."""
    width = max(len(window.slots) for window in windows)

    def laid_out(rows: list[Integers]) -> Integers:
        result = np.full((len(rows), width), -1, dtype=np.int64)
        for row, values in enumerate(rows):
            result[row, width - len(values) :] = values
        return result

    slots_BW = laid_out([window.slots for window in windows])
    sources_BW = laid_out([window.sources for window in windows])
    changed: dict[str, Any] = {
        "inputs": laid_out([window.items for window in windows]),
        "targets": laid_out(targets),
        "past": _gathered(past_BL, slots_BW),
    }
    # The kind of an event goes with its item; all else that is told of places (such as times) stays with the slot.
    for field in dataclasses.fields(batch):
        values = getattr(batch, field.name)
        if field.name not in changed and isinstance(values, np.ndarray) and values.shape == batch.inputs.shape:
            changed[field.name] = _gathered(values, sources_BW if field.name == "events" else slots_BW)
    return dataclasses.replace(batch, **changed)


def _gathered(values_BL: NDArray[Any], columns_BW: Integers) -> NDArray[Any]:
    """Return the values of some columns of each row; padding is NaN where numbers are real, else -1."""
    padding = np.nan if np.issubdtype(values_BL.dtype, np.floating) else -1
    found_BW = np.take_along_axis(values_BL, np.maximum(columns_BW, 0), axis=1)
    return np.where(columns_BW >= 0, found_BW, np.asarray(padding, dtype=values_BL.dtype))


def build_augmenter(
    config: AugmentationConfig, seed: int, text_vectors_NH: torch.Tensor | None, item_counts: NDArray[np.int64]
) -> Augmenter | None:
    """Make what changes the windows, or None where nothing does.

    Args:
        config: the section.
        seed: the run's.
        text_vectors_NH: of the catalogue, from the backbone before training, shape (N, H); read only for substitution.
        item_counts: training events of every item, shape (N,); those without any are no substitutes.
    Raises:
        InputError: if substitution is on and there are no text vectors.
    """
    if not config.active:
        return None
    if config.substitute is None:
        return Augmenter(config, seed)
    if text_vectors_NH is None:
        raise InputError("training.augmentation.substitute: compares texts of items, but this model reads none")
    return Augmenter(config, seed, nearest_items(text_vectors_NH, item_counts > 0, config.substitute.num_neighbours))
