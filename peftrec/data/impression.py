"""Impressions: which items a user was shown together, and which of them were clicked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.text_file import read_lines, require_file

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


class _Kept:
    """What is gathered line by line.

    Args:
        dataset: that tells users and items.
        split: whose cases no model was trained on.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        self._dataset = dataset
        cases = getattr(dataset.split, split)
        # What may not be a target: all that the user did before the first case of the split, or all without one.
        self._known: dict[int, int] = {}
        for user, length in zip(cases.users.tolist(), cases.history_lengths.tolist(), strict=True):
            self._known[user] = min(self._known.get(user, length), length)
        self._places = {user: number for number, user in enumerate(dataset.sequences.user_ids)}
        self.users: list[int] = []
        self.histories: list[list[int]] = []
        self.items: list[list[int]] = []
        self.clicked: list[list[bool]] = []
        reasons = (
            "unknown user",
            "no click",
            "clicks on unknown items alone",
            "nothing but clicks",
            "click in training",
        )
        self.left_out = dict.fromkeys(reasons, 0)
        self.unknown_items = 0
        self.twice = 0

    def add(self, user_id: str, history: list[str], candidates: list[tuple[str, bool]]) -> None:
        """Keep an impression, or count why not."""
        user = self._places.get(user_id)
        if user is None:
            self.left_out["unknown user"] += 1
            return
        places = self._dataset.catalogue.places
        past = [places[item] for item in history if item in places]
        shown: dict[int, bool] = {}
        for item, click in candidates:
            if item in places:
                self.twice += places[item] in shown
                shown[places[item]] = click or shown.get(places[item], False)
            else:
                self.unknown_items += 1
        self.unknown_items += len(history) - len(past)
        reason = self._reason(user, shown, any(click for _, click in candidates))
        if reason:
            self.left_out[reason] += 1
            return
        self.users.append(user)
        self.histories.append(past)
        self.items.append([*shown])
        self.clicked.append([*shown.values()])

    def _reason(self, user: int, shown: dict[int, bool], any_click: bool) -> str:
        """Return why an impression cannot be ranked, or ""."""
        clicked = {item for item, click in shown.items() if click}
        if not clicked:
            return "clicks on unknown items alone" if any_click else "no click"
        if len(clicked) == len(shown):
            return "nothing but clicks"
        sequences = self._dataset.sequences
        start = sequences.offsets[user]
        seen = sequences.items[start : start + self._known.get(user, int(sequences.lengths[user]))]
        return "click in training" if clicked.intersection(seen.tolist()) else ""


def read_impressions(path: Path, dataset: Dataset, split: str) -> Impressions:
    """Read impressions in the layout of MIND's `behaviors.tsv`.

    Columns are separated by tabs: the impression's id, the user's id, (the time, which is not read,) the history as
    item ids separated by spaces, and candidates such as `N1-1 N2-0`, of which 1 tells a click. Left out, and counted,
    are impressions of users whom the data set lacks, those without a click or with nothing else, and those in which an
    item was clicked that is among the user's events before the case of the split: the model was trained (or chosen) on
    it. Items that the catalogue lacks are taken out of histories and candidates; a candidate that is there twice counts
    once, as clicked if it was.

    Args:
        path: of the file, gzip-compressed where its name ends in .gz.
        dataset: the data set.
        split: `valid` or `test`.
    Returns:
        At least one impression.
    Raises:
        InputError: if the file is missing, a line is not UTF-8 or malformed (with its number), or nothing is left.
    """
    kept = _Kept(dataset, split)
    for user_id, history, candidates in _lines(path):
        kept.add(user_id, history, candidates)
    if not kept.users:
        told = ", ".join(f"{number:,} {reason}" for reason, number in kept.left_out.items())
        raise InputError(f"{path}: no impression can be ranked on {split} ({told})")
    history_offsets, history_items = _flat(kept.histories)
    offsets, items = _flat(kept.items)
    clicked = np.array([click for row in kept.clicked for click in row], dtype=bool)
    left_out = kept.left_out | {
        "items that the catalogue lacks": kept.unknown_items,
        "candidates that are there twice": kept.twice,
    }
    users_I = np.array(kept.users, dtype=np.int64)
    return Impressions(users_I, history_items, history_offsets, items, clicked, offsets, left_out)


def _lines(path: Path) -> Iterator[tuple[str, list[str], list[tuple[str, bool]]]]:
    """Yield user, history and candidates of every line that is not blank."""
    require_file(path, "evaluation.impressions names it")
    try:
        for lines in read_lines(path):
            for number, line in enumerate(lines.content.decode("utf-8").split("\n"), start=lines.first):
                if line.strip():
                    yield _parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise InputError(f"{path}: evaluation.impressions names it, but it cannot be read ({error.strerror})") from None


def _parsed(line: str, where: str) -> tuple[str, list[str], list[tuple[str, bool]]]:
    cells = line.rstrip("\r").split("\t")
    if len(cells) not in (4, 5):
        raise InputError(
            f"{where}: has {len(cells)} columns; there must be id, user, (time,) history and candidates, separated by "
            f"tabs"
        )
    candidates = []
    for cell in cells[-1].split():
        item, mark, label = cell.rpartition("-")
        if not mark or label not in ("0", "1"):
            raise InputError(f"{where}: {cell!r} is no candidate; it must be such as N1-1 or N2-0")
        candidates.append((item, label == "1"))
    return cells[1], cells[-2].split(), candidates


def _flat(rows: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return offsets, np.array([item for row in rows for item in row], dtype=np.int64)
