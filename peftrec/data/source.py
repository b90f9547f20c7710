"""The recipe's `data` section: what every source of data has, and the registry of sources.

Nothing here loads the table library: recipes are checked without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from peftrec.config import Range, Registry
from peftrec.data.split import SPLITS, LeaveOneOut, SplitConfig
from peftrec.data.template import Template

if TYPE_CHECKING:
    from peftrec.data.table import RawTable


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of the tables are called.

    Args:
        user: the user's id, in the interactions.
        item: the item's id, in both tables.
        time: when it happened, in the interactions.
        rating: how it was rated, in the interactions; read only where `cleaning.min_rating` is set.
        title: what people are shown for an item, in the items.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    rating: str = "rating"
    title: str = "title"


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


@dataclass(frozen=True, eq=False)
class RawTables:
    """Both tables as a source found them, and what their columns are called."""

    interactions: RawTable
    items: RawTable
    columns: Columns


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What every source of data has; the kinds add where the tables are.

    Args:
        root: the folder that relative paths start from.
        timestamps: `time` where the time column holds moments; `order` where it holds positions or is missing (then
            the order of the file counts).
        template: how an item's text is made from its columns, e.g. "{title}. {category}".
        cleaning: what is removed.
        split: which events train, validate and test.
    """

    kind: ClassVar[str]
    root: str = "./data"
    timestamps: Literal["time", "order"] = "time"
    template: str = "{title}"
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    split: Annotated[SplitConfig, SPLITS] = field(default_factory=LeaveOneOut)

    def __post_init__(self) -> None:
        Template(self.template)
        if self.split.needs_times and self.timestamps == "order":
            raise ValueError(
                f"split.kind: {self.split.kind} needs times, but data.timestamps is 'order' (positions tell nothing "
                f"across users); use leave_one_out"
            )

    def read(self) -> RawTables:
        """Reads both tables, as they are.

        Raises:
            InputError: if a file is missing or cannot be read.
        """
        raise NotImplementedError

    def wanted_columns(self, columns: Columns) -> tuple[Sequence[str], Sequence[str]]:
        """The columns that this recipe needs: of the interactions, and of the items."""
        rating = () if self.cleaning.min_rating is None else (columns.rating,)
        fields = Template(self.template).fields
        return (columns.user, columns.item, columns.time, *rating), (columns.item, columns.title, *fields)


SOURCES = Registry(
    "data",
    {
        "tables": "peftrec.data.sources.tables:TablesConfig",
        "movielens": "peftrec.data.sources.movielens:MovieLensConfig",
    },
)
