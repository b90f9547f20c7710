"""Impressions: which items a user was shown together, and which of them were clicked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Impressions:
    """I impressions that can be ranked: of known users, with clicked items and others, of clicks not trained on.

    Args:
        users_I: index of each impression's user.
        history_items: what the user had read before, the newest last, one impression after the other.
        history_offsets: where each impression's begin, and the end, shape (I + 1,).
        items: candidates, one impression after the other.
        clicked: whether each was clicked.
        offsets: where each impression's candidates begin, and the end, shape (I + 1,).
        left_out: how many impressions were left out, by reason, and how many items that the catalogue lacks.
    """

    users_I: NDArray[np.int64]
    history_items: NDArray[np.int64]
    history_offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.users_I)

    def histories(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the histories of some impressions, shape (b, L), left-padded with -1, the newest last."""
        lengths = np.diff(self.history_offsets[start : stop + 1])
        width = max(1, int(lengths.max(initial=0)))
        found = np.full((len(lengths), width), -1, dtype=np.int64)
        filled = np.arange(width) >= width - lengths[:, None]
        found[filled] = self.history_items[self.history_offsets[start] : self.history_offsets[start + len(lengths)]]
        return found


@dataclasses.dataclass
class _Kept:
    """What is gathered line by line."""

    users: list[int] = dataclasses.field(default_factory=list)
    histories: list[list[int]] = dataclasses.field(default_factory=list)
    items: list[list[int]] = dataclasses.field(default_factory=list)
    clicked: list[list[bool]] = dataclasses.field(default_factory=list)


def read_impressions(path: Path, dataset: Dataset, split: str) -> Impressions:
    """Read impressions in the layout of MIND's `behaviors.tsv`.

    Columns are separated by tabs: the impression's id, the user's id, (the time, which is not read,) the history as
    item ids separated by spaces, and candidates such as `N1-1 N2-0`, of which 1 tells a click. Left out, and counted,
    are impressions of users whom the data set lacks, those without a click or with nothing else, and those in which an
    item was clicked that is among the user's events before the case of the split: the model was trained (or chosen) on
    it. Items that the catalogue lacks are taken out of histories and candidates.

    Args:
        path: of the file.
        dataset: the data set.
        split: `valid` or `test`.
    Returns:
        At least one impression.
    Raises:
        InputError: if the file is missing, a line is malformed (with its number), or nothing is left.
    """
    cases = getattr(dataset.split, split)
    # What may not be a target: all that the user did before the first case of the split, or all where there is none.
    known = dict(zip(cases.users.tolist(), cases.history_lengths.tolist(), strict=True))
    for user, length in zip(cases.users.tolist(), cases.history_lengths.tolist(), strict=True):
        known[user] = min(known[user], length)
    place = {user: number for number, user in enumerate(dataset.sequences.user_ids)}
    kept, left_out = _Kept(), {"unknown user": 0, "no click": 0, "nothing but clicks": 0, "click in training": 0}
    unknown_items = 0
    for user_id, history, candidates in _lines(path):
        user = place.get(user_id)
        if user is None:
            left_out["unknown user"] += 1
            continue
        past = _items(dataset, history)
        unknown_items += len(history) - len(past)
        found = [
            (dataset.catalogue.places[item], click) for item, click in candidates if item in dataset.catalogue.places
        ]
        unknown_items += len(candidates) - len(found)
        reason = _reason(dataset, user, known, found)
        if reason:
            left_out[reason] += 1
            continue
        kept.users.append(user)
        kept.histories.append(past)
        kept.items.append([item for item, _ in found])
        kept.clicked.append([click for _, click in found])
    if not kept.users:
        told = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
        raise InputError(f"{path}: no impression can be ranked on {split} ({told})")
    left_out["items that the catalogue lacks"] = unknown_items
    history_offsets, history_items = _flat(kept.histories)
    offsets, items = _flat(kept.items)
    clicked = np.array([click for row in kept.clicked for click in row], dtype=bool)
    users_I = np.array(kept.users, dtype=np.int64)
    return Impressions(users_I, history_items, history_offsets, items, clicked, offsets, left_out)


def _reason(dataset: Dataset, user: int, known: dict[int, int], found: list[tuple[int, bool]]) -> str:
    """Return why an impression cannot be ranked, or ""."""
    clicked = {item for item, click in found if click}
    if not clicked:
        return "no click"
    if len(clicked) == len({item for item, _ in found}):
        return "nothing but clicks"
    sequences = dataset.sequences
    start = sequences.offsets[user]
    seen = sequences.items[start : start + known.get(user, int(sequences.lengths[user]))]
    return "click in training" if clicked.intersection(seen.tolist()) else ""


def _lines(path: Path) -> Iterator[tuple[str, list[str], list[tuple[str, bool]]]]:
    """Yield user, history and candidates of every line."""
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: evaluation.impressions names this file, but it is not there") from None
    with file:
        for number, line in enumerate(file, start=1):
            cells = line.rstrip("\r\n").split("\t")
            if len(cells) not in (4, 5):
                raise InputError(
                    f"{path}, line {number}: has {len(cells)} columns; there must be id, user, (time,) history and "
                    f"candidates, separated by tabs"
                )
            candidates = []
            for cell in cells[-1].split():
                item, mark, label = cell.rpartition("-")
                if not mark or label not in ("0", "1"):
                    raise InputError(
                        f"{path}, line {number}: {cell!r} is no candidate; it must be such as N1-1 or N2-0"
                    )
                candidates.append((item, label == "1"))
            yield cells[1], cells[-2].split(), candidates


def _items(dataset: Dataset, ids: list[str]) -> list[int]:
    places = dataset.catalogue.places
    return [places[item] for item in ids if item in places]


def _flat(rows: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return offsets, np.array([item for row in rows for item in row], dtype=np.int64)
