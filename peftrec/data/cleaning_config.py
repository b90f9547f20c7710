"""What a recipe says of cleaning, sampling and sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from peftrec.config import Range


@dataclass(frozen=True, kw_only=True)
class CleaningConfig:
    """What is removed from the tables; the report of a data set says how much each step took.

    Args:
        min_rating: keep only interactions rated at least so; None keeps all and reads no rating.
        min_user_events: users with fewer events are dropped (with `min_item_events`: repeated until both hold).
        min_item_events: interactions of items with fewer events are dropped; the items stay in the catalogue.
        drop_duplicates: drop interactions that repeat user, item and time of another.
        drop_repeats: true keeps only a user's first interaction with an item; `consecutive` keeps the first of those
            that directly follow each other; false keeps all.
        count_repeats: a user's interactions with an item become one, the newest, counted as many as they were.
        min_count: keep only interactions counted at least so; None keeps all.
        strip_html: decode HTML entities and drop HTML tags in item texts (white space is always made single).
        max_user_events: keep only each user's newest so many events; None keeps all.
        bot_events_per_day: users with more events than this within any 24 hours are taken for bots and dropped.
        bot_events: users with more events than this in all are taken for bots and dropped.
    """

    min_rating: float | None = None
    min_user_events: Annotated[int, Range(ge=1)] = 1
    min_item_events: Annotated[int, Range(ge=1)] = 1
    drop_duplicates: bool = True
    drop_repeats: bool | Literal["consecutive"] = False
    count_repeats: bool = False
    min_count: Annotated[int, Range(ge=1)] | None = None
    strip_html: bool = True
    max_user_events: Annotated[int, Range(ge=1)] | None = None
    bot_events_per_day: Annotated[int, Range(ge=1)] | None = None
    bot_events: Annotated[int, Range(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.count_repeats and self.drop_repeats:
            raise ValueError("count_repeats: true counts the repeats that drop_repeats takes away; set one of the two")


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Sessions in place of users: each stretch of a user's events without a longer pause is a sequence of its own.

    Session 3 of the user `ann` is called `ann#3`; cleaning steps that follow, the sample, the split and the evaluation
    take it for a user. A session knows nothing of the ones before it: that is what session-based recommendation asks.

    Args:
        gap_minutes: a longer pause than this begins another session.
    """

    gap_minutes: Annotated[float, Range(gt=0)]


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """A random part of the users, for quick runs; every item stays in the catalogue.

    Drawn from the users that cleaning left, by their ids: the order of the rows does not matter, and with one seed a
    larger sample holds every smaller one.

    Args:
        users: how many users stay.
        seed: of the draw; another one gives other users.
    """

    users: Annotated[int, Range(ge=1)]
    seed: Annotated[int, Range(ge=0)] = 0
