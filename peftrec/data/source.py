"""The recipe's `data` section: what every source of data has, and the registry of sources.

Nothing here loads the table library: recipes are checked without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from peftrec.config import Range, Registry
from peftrec.data.attribute import ATTRIBUTES, AttributeConfig
from peftrec.data.cleaning_config import CleaningConfig, SampleConfig, SessionConfig
from peftrec.data.report import CleaningRow
from peftrec.data.split import SPLITS, LeaveOneOut, SplitConfig
from peftrec.data.template import Template

if TYPE_CHECKING:
    from peftrec.data.table import RawTable


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of the tables are called.

    Args:
        user: the user's id, in the interactions and in the users.
        item: the item's id, in both tables.
        time: when it happened, in the interactions.
        rating: how it was rated, in the interactions; read only where `ratings` or `cleaning.min_rating` is set.
        title: what people are shown for an item, in the items.
        event: what kind of event it was, in the interactions; read only where `event_words` or `event_weights` is set.
            It may be the rating's column.
        count: how often it happened (plays, clicks), in the interactions; read only where `cleaning.min_count` or
            `weigh_counts` is set without `cleaning.count_repeats`.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    rating: str = "rating"
    title: str = "title"
    event: str = "event"
    count: str = "count"


@dataclass(frozen=True, eq=False)
class RawTables:
    """The tables as a source found them, and what their columns are called; users only where a template reads them.

    `rows` say what the source itself left out, for the report.
    """

    interactions: RawTable
    items: RawTable
    columns: Columns
    users: RawTable | None = None
    rows: tuple[CleaningRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What every source of data has; the kinds add where the tables are.

    Args:
        root: the folder that relative paths start from.
        timestamps: `time` where the time column holds moments; `order` where it holds positions or is missing (then
            the order of the file counts).
        template: how an item's text is made from its columns, e.g. "{title}. {category}".
        user_template: how a user's text is made from the columns of the table of users, e.g. "{age} years,
            {occupation}"; None reads no such table.
        event_words: the word that a profile's text uses for each value of the column `columns.event`, e.g. {view:
            viewed, purchase: bought}; a whole number may be written '5' or '5.0'. None reads no such column.
        event_weights: how much each value of the column `columns.event` counts as a target, e.g. {view: 0.1, cart: 0.5,
            purchase: 1.0}; events of weight 0 are dropped. In an epoch an event is a target with the chance of its
            weight over the largest. None weighs all alike and reads no such column.
        weigh_counts: multiply an event's weight by 1 + log2(its count).
        min_target_weight: events that weigh less are context alone: they stay in histories, but are never learned as
            targets nor evaluated. None lets every event be a target.
        sessions: cut users into sessions; None keeps users whole.
        ratings: keep how each interaction was rated (the column `columns.rating`), for a loss that learns it.
        item_attributes: columns of the items that are features beside their text, each with its kind, e.g. {price:
            {kind: numeric, log1p: true}, brand: {kind: categorical}}; None has none.
        user_attributes: likewise columns of the table of users.
        item_groups: columns of the items by whose values results are told apart; no model learns from them.
        user_groups: likewise columns of the table of users.
        item_fields: columns of the items that are kept beside each item, for filters, rules and pages; no model learns
            from them.
        group_separator: stands between the values of a cell of such a column, where it holds several.
        cleaning: what is removed.
        sample: keep only so many users, drawn after cleaning; None keeps all.
        split: which events train, validate and test.
    """

    kind: ClassVar[str]
    # What a run's card says of data that the kind alone makes known: their name, and the terms that they come under.
    known_as: ClassVar[str] = ""
    terms: ClassVar[str] = ""

    root: str = "./data"
    timestamps: Literal["time", "order"] = "time"
    template: str = "{title}"
    user_template: str | None = None
    event_words: dict[str, str] | None = None
    event_weights: dict[str, float] | None = None
    weigh_counts: bool = False
    min_target_weight: Annotated[float, Range(gt=0)] | None = None
    sessions: SessionConfig | None = None
    ratings: bool = False
    item_attributes: dict[str, Annotated[AttributeConfig, ATTRIBUTES]] | None = None
    user_attributes: dict[str, Annotated[AttributeConfig, ATTRIBUTES]] | None = None
    item_groups: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    item_fields: tuple[str, ...] = ()
    group_separator: str = "|"
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    sample: SampleConfig | None = None
    split: Annotated[SplitConfig, SPLITS] = field(default_factory=LeaveOneOut)

    def __post_init__(self) -> None:
        Template(self.template)
        if self.user_template is not None:
            try:
                Template(self.user_template)
            except ValueError as error:
                raise ValueError(f"user_template: {error}") from None
        if self.event_words is not None:
            _check_event_words(self.event_words)
        self._check_weights()
        self._check_times()
        for key in ("item_attributes", "user_attributes"):
            if getattr(self, key) == {}:
                raise ValueError(f"{key}: is empty; name columns with their kinds, or leave it out")
        for key in ("item_groups", "user_groups", "item_fields"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key}: must be distinct, got {list(getattr(self, key))}")
        if not self.group_separator:
            raise ValueError("group_separator: is empty; it stands between values, such as '|' or ', '")

    def _check_weights(self) -> None:
        if self.event_weights is not None:
            _check_event_weights(self.event_weights)
            if self.cleaning.count_repeats:
                raise ValueError(
                    "event_weights: tells kinds of events apart, but cleaning.count_repeats counts them together; set "
                    "one of the two"
                )
        if self.min_target_weight is None:
            return
        if not self.weighs_events:
            raise ValueError(
                "min_target_weight: all events weigh alike; set event_weights or weigh_counts, or unset it"
            )
        heaviest = max((self.event_weights or {"": 1.0}).values())
        if not self.weigh_counts and self.min_target_weight > heaviest:
            raise ValueError(
                f"min_target_weight: {self.min_target_weight:g} lies above the largest weight of event_weights, "
                f"{heaviest:g}, so that no event could be a target"
            )

    def _check_times(self) -> None:
        if self.timestamps == "time":
            return
        if self.split.needs_times:
            raise ValueError(
                f"split.kind: {self.split.kind} needs times, but data.timestamps is 'order' (positions tell nothing "
                f"across users); use leave_one_out"
            )
        moments = {"sessions": self.sessions, "cleaning.bot_events_per_day": self.cleaning.bot_events_per_day}
        for key, value in moments.items():
            if value is not None:
                raise ValueError(f"{key}: needs times, but data.timestamps is 'order' (positions tell no durations)")

    @property
    def set_path(self) -> str:
        """The folder or file that tells one data set of this kind from another; "" where there is none."""
        return ""

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Data sets of the Hub that the tables come from, each once."""
        return ()

    @property
    def weighs_events(self) -> bool:
        """Whether events count differently as targets."""
        return self.event_weights is not None or self.weigh_counts

    @property
    def reads_counts(self) -> bool:
        """Whether the column of counts is read."""
        return not self.cleaning.count_repeats and (self.cleaning.min_count is not None or self.weigh_counts)

    def read(self) -> RawTables:
        """Reads the tables, as they are; that of the users only where `reads_users`.

        Raises:
            InputError: if a file is missing or cannot be read.
        """
        raise NotImplementedError

    @property
    def reads_users(self) -> bool:
        """Whether anything is read of the table of users."""
        return self.users_key is not None

    @property
    def users_key(self) -> str | None:
        """The first key that asks for the table of users, for messages; None where none does."""
        keys = ("user_template", "user_attributes", "user_groups")
        return next((key for key in keys if getattr(self, key)), None)

    def wanted_columns(self, columns: Columns) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """The columns that this recipe needs: of the interactions, of the items, and of the users."""
        rating = (columns.rating,) if self.ratings or self.cleaning.min_rating is not None else ()
        event = () if self.event_words is None and self.event_weights is None else (columns.event,)
        count = (columns.count,) if self.reads_counts else ()
        fields = Template(self.template).fields
        user_fields = () if self.user_template is None else Template(self.user_template).fields
        return (
            (columns.user, columns.item, columns.time, *rating, *event, *count),
            (columns.item, columns.title, *fields, *(self.item_attributes or ()), *self.item_fields),
            (columns.user, *user_fields, *(self.user_attributes or ())),
        )


WHOLE_NUMBER = r"^([+-]?\d+)\.0+$"  # its first group is how it is compared


def event_value(text: str) -> str:
    """A value of the event column as it is compared: without outer spaces, a whole number without its '.0'."""
    return re.sub(WHOLE_NUMBER, r"\1", text.strip())


def distinct_words(words: Mapping[str, str]) -> tuple[str, ...]:
    """The words by code: each once, in the order of the recipe; values with the same word share its code."""
    return tuple(dict.fromkeys(word.strip() for word in words.values()))


def _check_event_words(words: Mapping[str, str]) -> None:
    if not words:
        raise ValueError(
            "event_words: is empty; give each value of the column a word, such as {view: viewed, purchase: bought}, "
            "or leave it out"
        )
    for value, word in words.items():
        if value.strip() and not word.strip():
            raise ValueError(f"event_words.{value}: {word!r} is no word; it goes into the text of a profile")
    _check_event_values("event_words", words)


def _check_event_weights(weights: Mapping[str, float]) -> None:
    if not weights:
        raise ValueError(
            "event_weights: is empty; give each value of the column a weight, such as {view: 0.1, purchase: 1.0}, or "
            "leave it out"
        )
    for value, weight in weights.items():
        if value.strip() and weight < 0:
            raise ValueError(f"event_weights.{value}: {weight:g} is out of range; it must be >= 0 (0 drops the event)")
    if not any(weights.values()):
        raise ValueError("event_weights: every weight is 0, which drops all events; give one a weight above 0")
    _check_event_values("event_weights", weights)


def _check_event_values(key: str, values: Iterable[str]) -> None:
    written: dict[str, str] = {}
    for value in values:
        if not value.strip():
            raise ValueError(f"{key}: {value!r} is no value: an empty one counts as missing")
        first = written.setdefault(event_value(value), value)
        if first != value:
            raise ValueError(f"{key}: {first!r} and {value!r} are the same value; keep one")


SOURCES = Registry(
    "data",
    {
        "tables": "peftrec.data.sources.tables:TablesConfig",
        "datasets": "peftrec.data.sources.datasets:DatasetsConfig",
        "amazon_reviews": "peftrec.data.sources.amazon_reviews:AmazonReviewsConfig",
        "complete_journey": "peftrec.data.sources.complete_journey:CompleteJourneyConfig",
        "movielens": "peftrec.data.sources.movielens:MovieLensConfig",
        "recbole": "peftrec.data.sources.recbole:RecBoleConfig",
    },
)
