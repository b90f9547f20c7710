"""What a data set holds, in numbers: what to look at before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.data.dataset import Dataset
from peftrec.data.distribution import Distribution, distribution
from peftrec.data.event_kind import EventKind
from peftrec.data.language import count_languages
from peftrec.data.report import CleaningReport
from peftrec.data.split_part import Part, split_parts

_TOP_SHARES = (0.01, 0.1, 0.5)
_CURVE_POINTS = 60
_TIME_BINS = 48


@dataclass(frozen=True)
class Texts:
    """What is known of the items' texts.

    Args:
        characters: of each.
        lengths: of each, in `unit`.
        unit: `tokens` of the recipe's tokenizer, or `words` where there is none at hand.
        max_tokens: where texts are cut; None where it is not known.
        num_cut: texts that are longer; None where lengths are not in tokens.
        languages: guesses by `guess_language`, the most frequent first.
        looked_at: texts that were guessed at.
        same_title: items whose title another item has too.
        same_text: items whose text another item has too.
        frequent_title: the title that most items have, and how many have it.
    """

    characters: Distribution
    lengths: Distribution
    unit: str
    max_tokens: int | None
    num_cut: int | None
    languages: dict[str, int]
    looked_at: int
    same_title: int
    same_text: int
    frequent_title: tuple[str, int]


@dataclass(frozen=True)
class Times:
    """When events happened.

    Args:
        first: milliseconds since 1970.
        last: milliseconds since 1970.
        edges: of the bins, milliseconds.
        train: training events in each bin.
        other: events of validation and test, or behind the last target.
    """

    first: int
    last: int
    edges: tuple[int, ...]
    train: tuple[int, ...]
    other: tuple[int, ...]

    @property
    def first_day(self) -> str:
        """Such as `2024-05-01`, of UTC."""
        return _day(self.first)

    @property
    def last_day(self) -> str:
        """Such as `2024-05-01`, of UTC."""
        return _day(self.last)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All numbers; `to_dict` gives them as plain values.

    Args:
        unit: what all these numbers count as a user: `user`, or `session` where the recipe cuts users into sessions.
        users: with an event (or sessions).
        people: whose sessions they are; None where nothing is cut.
        items: of the catalogue.
        events: of all users.
        pairs: distinct pairs of user and item among them.
        taken_out: events that the split has taken out of everything, and that only `event_kinds` count.
        context_events: events that are never targets.
        event_kinds: events by kind, with weight and word, as read and as cleaning has left them, before the split;
            empty where the recipe names no kinds.
        items_without_events: items of the catalogue that nobody has touched.
        duplicate_rows: interactions that cleaning dropped, as they repeat another.
        duplicate_item_ids: items that cleaning dropped for the same reason.
        sequences: events a user (or session); training events of each that has any; the history of a test case.
        popularity: events an item that has any.
        top_shares: share of all events that the most popular 1 %, 10 % and 50 % of the catalogue have.
        curve: points of the share of events (second) that the most popular share of items (first) has.
        texts: of items.
        times: None where the data hold only an order.
        parts: training, validation, test.
        split: what the split is called.
        leaks: what it lets through, in a sentence.
        cleaning: the report.
    """

    unit: str
    users: int
    people: int | None
    items: int
    events: int
    pairs: int
    taken_out: int
    context_events: int
    event_kinds: tuple[EventKind, ...]
    items_without_events: int
    duplicate_rows: int
    duplicate_item_ids: int
    sequences: tuple[Distribution, ...]
    popularity: Distribution
    top_shares: dict[str, float]
    curve: tuple[tuple[float, float], ...]
    texts: Texts
    times: Times | None
    parts: tuple[Part, ...]
    split: str
    leaks: str
    cleaning: CleaningReport

    @property
    def density(self) -> float:
        """Share of all pairs of user and item that have an event."""
        return self.pairs / (self.users * self.items)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, `density` and `sparsity` among them."""
        return {"density": self.density, "sparsity": 1 - self.density} | asdict(self)


def inspect_dataset(
    dataset: Dataset, *, token_lengths: NDArray[np.int64] | None = None, max_tokens: int | None = None
) -> Inspection:
    """Counts everything that a look at a data set should tell.

    Args:
        dataset: cleaned and split.
        token_lengths: tokens of each item's text before any cut, shape (N,); None counts words instead.
        max_tokens: where the recipe cuts texts.
    """
    sequences, report = dataset.sequences, dataset.report
    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    counts = np.bincount(sequences.items, minlength=len(dataset.catalogue))
    ordered = np.sort(counts)[::-1]
    running = np.concatenate([[0], np.cumsum(ordered)]) / max(1, len(sequences.items))
    places = np.unique(np.round(np.linspace(0, len(counts), _CURVE_POINTS + 1)).astype(np.int64))
    trained = dataset.split.train_lengths
    unit = sequences.unit
    by_user = [(f"events a {unit}", sequences.lengths), (f"training events a {unit}", trained)]
    by_user.append(("history of a test case", dataset.split.test.history_lengths))
    split_row = report.rows[-1]
    return Inspection(
        unit=unit,
        users=len(sequences),
        people=None if sequences.owners is None else len(np.unique(sequences.owners)),
        items=len(dataset.catalogue),
        events=len(sequences.items),
        pairs=len(np.unique(users * len(dataset.catalogue) + sequences.items)),
        taken_out=report.remaining("kept") - len(sequences.items),
        context_events=0 if sequences.weights is None else int((sequences.weights == 0).sum()),
        event_kinds=dataset.event_kinds,
        items_without_events=int((counts == 0).sum()),
        duplicate_rows=report.removed("duplicate interactions"),
        duplicate_item_ids=report.removed("duplicate item ids", "items"),
        sequences=tuple(distribution(name, values[values > 0]) for name, values in by_user if (values > 0).any()),
        popularity=distribution("events an item", counts[counts > 0]),
        top_shares={f"{share:.0%}": float(running[round(len(counts) * share)]) for share in _TOP_SHARES},
        curve=tuple((float(place / len(counts)), float(running[place])) for place in places),
        texts=_texts(dataset, token_lengths, max_tokens),
        times=_times(dataset, users),
        parts=split_parts(dataset),
        split=split_row.step.removeprefix("split "),
        leaks=dataset.split.leaks,
        cleaning=report,
    )


def _day(milliseconds: int) -> str:
    return str(np.datetime64(milliseconds, "ms").astype("datetime64[D]"))


def _texts(dataset: Dataset, token_lengths: NDArray[np.int64] | None, max_tokens: int | None) -> Texts:
    texts, titles = dataset.catalogue.texts, dataset.catalogue.titles
    unit = "words" if token_lengths is None else "tokens"
    lengths = np.array([len(text.split()) for text in texts]) if token_lengths is None else token_lengths
    languages, looked_at = count_languages(texts)
    cut = None if token_lengths is None or max_tokens is None else int((token_lengths > max_tokens).sum())
    return Texts(
        characters=distribution("characters a text", np.array([len(text) for text in texts])),
        lengths=distribution(f"{unit} a text", lengths),
        unit=unit,
        max_tokens=max_tokens,
        num_cut=cut,
        languages=languages,
        looked_at=looked_at,
        same_title=_num_shared(titles),
        same_text=_num_shared(texts),
        frequent_title=Counter(titles).most_common(1)[0],
    )


def _num_shared(values: Sequence[str]) -> int:
    """How many have a value that another has too."""
    return sum(count for count in Counter(values).values() if count > 1)


def _times(dataset: Dataset, users: NDArray[np.int64]) -> Times | None:
    sequences = dataset.sequences
    if sequences.times is None or not len(sequences.times):
        return None
    places = np.arange(len(sequences.items)) - sequences.offsets[users]
    trains = places < dataset.split.train_lengths[users]
    first, last = int(sequences.times.min()), int(sequences.times.max())
    edges = np.linspace(first, last + 1, _TIME_BINS + 1)
    train, other = (np.histogram(sequences.times[which], edges)[0] for which in (trains, ~trains))
    whole = tuple(int(edge) for edge in edges)
    return Times(first, last, whole, tuple(map(int, train)), tuple(map(int, other)))
