"""What is told of users, as models read it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.given_history import Moment, event_kinds, event_times
from peftrec.models import given_users
from peftrec.publishing import Run
from peftrec.recommender.stock import Stock
from peftrec.recommender.stock_view import Choice, StockView
from peftrec.retrieval import Asked, Filter


@dataclasses.dataclass(frozen=True)
class Told:
    """What is told of users beside their histories, one of each a user; None where nothing is.

    Args:
        attributes: texts.
        events: kinds of the events.
        times: of the events.
        user_attributes: columns to values.
    """

    attributes: Sequence[str] | None = None
    events: Sequence[Sequence[str]] | None = None
    times: Sequence[Sequence[Moment]] | None = None
    user_attributes: Sequence[Mapping[str, Any]] | None = None

    @classmethod
    def of(cls, names: Sequence[str], *given: Mapping[str, Any] | None) -> Told:
        """Return what is told of some users, of parts that are told by user, in the order of the fields."""
        nothing: tuple[Any, ...] = ("", (), (), {})
        return cls(
            *(
                None if one is None else [one.get(name, none) for name in names]
                for one, none in zip(given, nothing, strict=True)
            )
        )

    def part(self, part: slice) -> Told:
        """Return that of some users."""
        return Told(*(None if given is None else given[part] for given in self._given()))

    def is_of(self, num_users: int) -> bool:
        """Return whether there is one of each a user."""
        return all(given is None or len(given) == num_users for given in self._given())

    def _given(self) -> tuple[Any, ...]:
        return self.attributes, self.events, self.times, self.user_attributes


class Questions:
    """Reads histories and what is told beside them.

    Args:
        run: that is asked.
        stock: its items.
    """

    def __init__(self, run: Run, stock: Stock) -> None:
        self._run, self._stock = run, stock
        # A model holds what it is told of users until it is told of others.
        self._holds = any(one.profiles is not None or one.user_attributes is not None for one in run.models)
        self._reads_times = any(model.needs_times for model in run.models)

    def turn(self) -> AbstractContextManager[Any]:
        """Return what to hold from a question to its answer: models that are told of users answer one at a time."""
        return self._stock.asking if self._holds else contextlib.nullcontext()

    def ask(
        self, histories: Sequence[Sequence[str | int]], told: Told, wanted: Filter | None = None
    ) -> tuple[Asked, Choice, StockView]:
        """Return users as models read them, and a filter and the items as they are now.

        Raises:
            InputError: if an id, a kind or a column is unknown, times are missing or fall, or the run does not read
                what it is told.
        """
        histories_BL, choice, view = self._stock.look_up(histories, wanted)
        times_BL, events_BL = self._times(histories, told.times), self._kinds(histories, told.events)
        users_B, told_B = given_users(self._run.models, len(histories_BL), told.attributes, told.user_attributes)
        unknown_B = (histories_BL < 0).all(1) & ~told_B
        return Asked(histories_BL, users_B, events_BL, times_BL, unknown_B), choice, view

    def _kinds(
        self, histories: Sequence[Sequence[str | int]], events: Sequence[Sequence[str]] | None
    ) -> NDArray[np.int64] | None:
        """Return the codes of the kinds of events, laid out as the histories are."""
        if events is None:
            return None
        words = self._run.recipe.data.event_words
        if words is None or all(model.profiles is None for model in self._run.models):
            raise InputError("kinds of events were given, but this run reads none (its recipe has no data.event_words)")
        return event_kinds(words, histories, events)

    def _times(
        self, histories: Sequence[Sequence[str | int]], times: Sequence[Sequence[Moment]] | None
    ) -> NDArray[np.int64] | None:
        """Return the times of events, laid out as the histories are."""
        if self._reads_times:
            return event_times(histories, times)
        if times is not None:
            raise InputError("times were given, but this run reads none (its recipe has no user.time_intervals: true)")
        return None
