"""Requests, as OpenAPI describes them; what is not named here is refused."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from peftrec.serving.fast_json import plain_json

LONGEST_ID: Final = 256
LONGEST_TEXT: Final = 20_000
MOST_EVENTS: Final = 1000
MOST_ITEMS: Final = 256
LONGEST_HISTORY: Final = 1000
LONGEST_LIST: Final = 1000
MOST_EXPLAINED: Final = 100
MOST_WITH_WORDS: Final = 5
_LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999


def _unquoted(value: Any) -> Any:
    # Paths are matched as they were sent, so this is the one place where they are decoded.
    return unquote(value, errors="strict") if isinstance(value, str) else value


Whole = AfterValidator(plain_json)
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID), Whole]
PathId = Annotated[str, BeforeValidator(_unquoted), Field(min_length=1, max_length=LONGEST_ID), Whole]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, pattern=r"\S"), Whole]
Object = Annotated[dict[str, Any], Field(max_length=100), Whole]
Length = Annotated[int, Field(ge=1, le=LONGEST_LIST)]
Age = Annotated[float, Field(ge=0, le=150, allow_inf_nan=False)]
Diversity = Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)]

_AGE: Final = "of the user in years, for rules; left out, it is below every age"
_DETAILS: Final = "whether entries have the items' fields"
_DIVERSITY: Final = "strength of MMR in place of the service's own re-ranking; 0 orders by score alone"
_EXPLAIN: Final = "whether entries say why they are there"
_FILTER: Final = "a filter as JSON"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EventMessage(_Strict):
    """One thing that a user did."""

    event_id: Id = Field(description="chosen by the sender; sending it again changes nothing")
    user_id: Id
    item_id: Id
    time_ms: int | None = Field(None, ge=0, le=_LAST_MS, description="milliseconds since 1970; else now")
    kind: Annotated[str, Field(min_length=1, max_length=LONGEST_ID), Whole] | None = Field(
        None, description="as the run's data name kinds of events"
    )


class EventsMessage(_Strict):
    """Events that are stored together, all or none."""

    events: list[EventMessage] = Field(min_length=1, max_length=MOST_EVENTS)


class _OneUser(_Strict):
    history: list[Id] = Field(max_length=LONGEST_HISTORY, description="item ids, oldest first")
    unknown: Literal["refuse", "skip"] = Field("refuse", description="what to do with ids that no item has")
    events: list[Id] | None = Field(None, max_length=LONGEST_HISTORY, description="the kind of each event")
    times_ms: list[Annotated[int, Field(ge=0, le=_LAST_MS)]] | None = Field(
        None, max_length=LONGEST_HISTORY, description="when each event happened, milliseconds since 1970"
    )
    attributes: Text | None = Field(None, description="the user's text, where the run reads it")
    user_attributes: Object | None = Field(None, description="the user's columns, where the run reads them")


class HistoryMessage(_OneUser):
    """A history for which a list is asked; nothing of it is stored."""

    k: Length = 10
    filter: Object | None = None
    exclude_history: bool = True
    explain: bool = Field(False, description=_EXPLAIN)
    details: bool = Field(False, description=_DETAILS)
    diversity: Diversity | None = Field(None, description=_DIVERSITY)
    age: Age | None = Field(None, description=_AGE)


class ExplanationsMessage(_OneUser):
    """Items of which is asked why they have their scores for a history; nothing of it is stored."""

    item_ids: list[Id] = Field(min_length=1, max_length=MOST_EXPLAINED)
    words: bool = Field(
        False,
        description=f"also find the words that carry each; takes seconds, and {MOST_WITH_WORDS} items at most",
    )


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListQuery(_Query):
    """How a list is to be."""

    k: Length = 10
    filter: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = Field(None, description=_FILTER)
    exclude_history: bool = True
    explain: bool = Field(False, description=_EXPLAIN)
    details: bool = Field(False, description=_DETAILS)
    diversity: Diversity | None = Field(None, description=_DIVERSITY)
    age: Age | None = Field(None, description=_AGE)


class SimilarQuery(_Query):
    """How a list of similar items is to be."""

    k: Length = 10
    filter: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = Field(None, description=_FILTER)
    details: bool = Field(False, description=_DETAILS)
    age: Age | None = Field(None, description=_AGE)


class PastQuery(_Query):
    """How many of a user's events are asked for."""

    k: Length = 50


class SearchQuery(_Query):
    """What is looked for in titles."""

    query: Annotated[str, Field(max_length=200)] = ""
    k: Annotated[int, Field(ge=1, le=100)] = 20


class ContentMessage(_Strict):
    """What an item says about itself; an update replaces all of it (attributes that are left out stay)."""

    text: Text = Field(description="what the encoder reads, as the run's template makes it")
    title: Text | None = Field(None, description="for people; else the text")
    attributes: Object | None = Field(None, description="columns of data.item_attributes")
    fields: Object | None = Field(None, description="columns of data.item_fields")


class ItemMessage(ContentMessage):
    """A new item."""

    item_id: Id


class ItemsMessage(_Strict):
    """New items, all or none."""

    items: list[ItemMessage] = Field(min_length=1, max_length=MOST_ITEMS)
