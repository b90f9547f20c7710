"""The kinds of events that a recipe names, and how many events there are of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftrec.data.source import event_value

if TYPE_CHECKING:
    from peftrec.data.source import DataConfig


@dataclass(frozen=True)
class EventKind:
    """One value of the column of events.

    Args:
        value: as the recipe writes it.
        word: of `data.event_words`; None where the recipe names none.
        weight: of `data.event_weights`; None where kinds have no weights.
        read: interactions of this kind in the table.
        kept: those that cleaning has left, before the split; of weight 0 there are none.
    """

    value: str
    word: str | None
    weight: float | None
    read: int
    kept: int


def named_values(config: DataConfig) -> tuple[str, ...]:
    """The values of the column of events that a recipe gives a weight or a word, each once, as it writes them."""
    first: dict[str, str] = {}
    for value in (*(config.event_weights or ()), *(config.event_words or ())):
        first.setdefault(event_value(value), value)
    return tuple(first.values())
