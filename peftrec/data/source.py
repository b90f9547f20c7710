"""The recipe's `data` section: what every source of data has, and the registry of sources.

Nothing here loads the table library: recipes are checked without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from peftrec.config import Range, Registry
from peftrec.data.attribute import ATTRIBUTES, AttributeConfig
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
        rating: how it was rated, in the interactions; read only where `cleaning.min_rating` is set.
        title: what people are shown for an item, in the items.
        event: what kind of event it was, in the interactions; read only where `event_words` is set. It may be the
            rating's column.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    rating: str = "rating"
    title: str = "title"
    event: str = "event"


@dataclass(frozen=True, kw_only=True)
class CleaningConfig:
    """What is removed from the tables; the report of a data set says how much each step took.

    Args:
        min_rating: keep only interactions rated at least so; None keeps all and reads no rating.
        min_user_events: users with fewer events are dropped (with `min_item_events`: repeated until both hold).
        min_item_events: interactions of items with fewer events are dropped; the items stay in the catalogue.
        drop_duplicates: drop interactions that repeat user, item and time of another.
        drop_repeats: keep only a user's first interaction with an item.
        strip_html: decode HTML entities and drop HTML tags in item texts (white space is always made single).
        max_user_events: keep only each user's newest so many events; None keeps all.
    """

    min_rating: float | None = None
    min_user_events: Annotated[int, Range(ge=1)] = 1
    min_item_events: Annotated[int, Range(ge=1)] = 1
    drop_duplicates: bool = True
    drop_repeats: bool = False
    strip_html: bool = True
    max_user_events: Annotated[int, Range(ge=1)] | None = None


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


@dataclass(frozen=True, eq=False)
class RawTables:
    """The tables as a source found them, and what their columns are called; users only where a template reads them."""

    interactions: RawTable
    items: RawTable
    columns: Columns
    users: RawTable | None = None


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
        item_attributes: columns of the items that are features beside their text, each with its kind, e.g. {price:
            {kind: numeric, log1p: true}, brand: {kind: categorical}}; None has none.
        user_attributes: likewise columns of the table of users.
        cleaning: what is removed.
        sample: keep only so many users, drawn after cleaning; None keeps all.
        split: which events train, validate and test.
    """

    kind: ClassVar[str]
    root: str = "./data"
    timestamps: Literal["time", "order"] = "time"
    template: str = "{title}"
    user_template: str | None = None
    event_words: dict[str, str] | None = None
    item_attributes: dict[str, Annotated[AttributeConfig, ATTRIBUTES]] | None = None
    user_attributes: dict[str, Annotated[AttributeConfig, ATTRIBUTES]] | None = None
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
        for key in ("item_attributes", "user_attributes"):
            if getattr(self, key) == {}:
                raise ValueError(f"{key}: is empty; name columns with their kinds, or leave it out")
        if self.split.needs_times and self.timestamps == "order":
            raise ValueError(
                f"split.kind: {self.split.kind} needs times, but data.timestamps is 'order' (positions tell nothing "
                f"across users); use leave_one_out"
            )

    def read(self) -> RawTables:
        """Reads the tables, as they are; that of the users only where `reads_users`.

        Raises:
            InputError: if a file is missing or cannot be read.
        """
        raise NotImplementedError

    @property
    def reads_users(self) -> bool:
        """Whether anything is read of the table of users."""
        return self.user_template is not None or self.user_attributes is not None

    def wanted_columns(self, columns: Columns) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """The columns that this recipe needs: of the interactions, of the items, and of the users."""
        rating = () if self.cleaning.min_rating is None else (columns.rating,)
        event = () if self.event_words is None else (columns.event,)
        fields = Template(self.template).fields
        user_fields = () if self.user_template is None else Template(self.user_template).fields
        return (
            (columns.user, columns.item, columns.time, *rating, *event),
            (columns.item, columns.title, *fields, *(self.item_attributes or ())),
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
    written: dict[str, str] = {}
    for value, word in words.items():
        if not value.strip():
            raise ValueError(f"event_words: {value!r} is no value: an empty one counts as missing")
        if not word.strip():
            raise ValueError(f"event_words.{value}: {word!r} is no word; it goes into the text of a profile")
        first = written.setdefault(event_value(value), value)
        if first != value:
            raise ValueError(f"event_words: {first!r} and {value!r} are the same value; keep one")


SOURCES = Registry(
    "data",
    {
        "tables": "peftrec.data.sources.tables:TablesConfig",
        "movielens": "peftrec.data.sources.movielens:MovieLensConfig",
    },
)
