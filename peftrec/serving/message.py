"""Requests and answers, as OpenAPI describes them; what is not named here is refused."""

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


class HistoryMessage(_Strict):
    """A history for which a list is asked; nothing of it is stored."""

    history: list[Id] = Field(max_length=LONGEST_HISTORY, description="item ids, oldest first")
    k: Length = 10
    filter: Object | None = None
    exclude_history: bool = True
    unknown: Literal["refuse", "skip"] = Field("refuse", description="what to do with ids that no item has")
    events: list[Id] | None = Field(None, max_length=LONGEST_HISTORY, description="the kind of each event")
    times_ms: list[Annotated[int, Field(ge=0, le=_LAST_MS)]] | None = Field(
        None, max_length=LONGEST_HISTORY, description="when each event happened, milliseconds since 1970"
    )
    attributes: Text | None = Field(None, description="the user's text, where the run reads it")
    user_attributes: Object | None = Field(None, description="the user's columns, where the run reads them")


class ListQuery(BaseModel):
    """How a list is to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: Length = 10
    filter: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = Field(None, description="a filter as JSON")
    exclude_history: bool = True


class SimilarQuery(BaseModel):
    """How a list of similar items is to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: Length = 10
    filter: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = Field(None, description="a filter as JSON")


class SearchQuery(BaseModel):
    """What is looked for in titles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class EventsAnswer(BaseModel):
    """The events are on the disk."""

    stored: int
    repeated: int = Field(description="stored before under the same ids")
    unknown_items: list[str] = Field(description="ids that no item has now; histories leave them out until one does")


class EntryAnswer(BaseModel):
    """One place of a list."""

    rank: int
    score: float
    item_id: str
    title: str
    source: str = Field(description="model, content or popularity")


class ListAnswer(BaseModel):
    """A list, best first."""

    items: list[EntryAnswer]
    fallback: str | None = Field(description="why the most popular items are shown; null where the history was read")
    reason: str | None = Field(description="why the list is short or empty, where there is a reason")
    skipped: list[str] = Field(description="ids of the history that no item has")


class ItemAnswer(BaseModel):
    """An item."""

    item_id: str
    title: str
    text: str
    fields: dict[str, Any]


class FoundAnswer(BaseModel):
    """Items whose titles hold what was looked for."""

    items: list[ItemAnswer]


class AddedAnswer(BaseModel):
    """The items can be recommended."""

    item_ids: list[str]


class UserDeletedAnswer(BaseModel):
    """Of the user nothing is left in the store's files."""

    deleted_events: int


class StateAnswer(BaseModel):
    """How the service is."""

    status: str
    items: int


class HealthAnswer(BaseModel):
    """The service answers."""

    status: str


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str
    message: str
    request_id: str


class ErrorAnswer(BaseModel):
    """Every error has this form."""

    error: ErrorDetail
