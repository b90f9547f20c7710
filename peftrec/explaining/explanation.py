"""Why an item is recommended, as people get it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

Basis = Literal["history", "attributes", "popularity"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryEvidence:
    """What one event of the history does for an item's score.

    Args:
        item_id: of the event.
        title: of that item, for people.
        event: place in the history as it was given, 0 for the oldest; it tells repeats of an item apart.
        change: the item's score less its score for the history without this event; above 0, the event carries it.
        attention: the share that the user encoder's attention gives the event, as a mean over heads of its last block;
            the same for every item, and no part of the change. None where the encoder has no such weights, or the event
            is older than what it reads.
    """

    item_id: str
    title: str
    event: int
    change: float
    attention: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordEvidence:
    """What one word of an item's text does for its score.

    Args:
        text: `item_text[start:end]`.
        start: and `end`, in characters of the item's text.
        attribution: integrated gradients of its tokens; above 0, the word carries the item.
    """

    text: str
    start: int
    end: int
    attribution: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordAttribution:
    """What the words of one text add to the score that the text would have without them.

    Args:
        words: in the order of the text, punctuation too; words behind `encoder.max_tokens` are not read and not here.
        score: of the text, for the user at hand.
        baseline_score: of the text with every token of its words replaced by padding.
        residual: (score - baseline_score) less the sum of the attributions, which steps without end would make 0.
        num_steps: of the integral.
        complete: whether the residual is as small as was asked for.
    """

    words: tuple[WordEvidence, ...]
    score: float
    baseline_score: float
    residual: float
    num_steps: int
    complete: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why one item has its score.

    Args:
        item_id: of the item.
        title: of the item, for people.
        score: as in lists.
        basis: what the score stands on: the history; without one, what is known of the user otherwise; or else how many
            training events the item has.
        evidence: the events of the history, those first that carry the item most.
        words: of the item's text; None where they were not asked for, and where the score stands on popularity.
        word_attribution: what the words' attributions add up to; None likewise.
        sentence: all this in plain words.
    """

    item_id: str
    title: str
    score: float
    basis: Basis
    evidence: tuple[HistoryEvidence, ...]
    words: tuple[WordEvidence, ...] | None
    word_attribution: WordAttribution | None = dataclasses.field(repr=False)
    sentence: str


def describe_explanations(explanations: Sequence[Explanation]) -> list[dict[str, Any]]:
    """Return explanations as plain rows for JSON; words stand there once, with what they add up to beside them."""
    rows = []
    for explanation in explanations:
        row = dataclasses.asdict(explanation)
        attribution = row["word_attribution"]
        if attribution is not None:
            del attribution["words"]
        rows.append(row)
    return rows
