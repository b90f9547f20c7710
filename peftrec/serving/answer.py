"""Answers, as OpenAPI describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class EventsAnswer(BaseModel):
    """The events are on the disk."""

    stored: int
    repeated: int = Field(description="stored before under the same ids")
    unknown_items: list[str] = Field(description="ids that no item has now; histories leave them out until one does")


class EvidenceAnswer(BaseModel):
    """An event of the history, and what it does for an item's score."""

    item_id: str
    title: str
    event: int = Field(description="place in the history that was sent, or among the user's events, 0 for the oldest")
    change: float = Field(description="the score less that without the event; above 0, the event carries the item")
    attention: float | None = Field(description="its share of the attention, where the run has any")


class ReasonAnswer(BaseModel):
    """Why an item is in a list."""

    sentence: str
    evidence: list[EvidenceAnswer] = Field(description="three at most, those first that carry it most")


class EntryAnswer(BaseModel):
    """One place of a list."""

    rank: int
    score: float
    item_id: str
    title: str
    source: str = Field(description="model, content or popularity")
    fields: dict[str, Any] | None = Field(None, description="there with details=true")
    explanation: ReasonAnswer | None = Field(
        None, description="there with explain=true; null where the item was removed in this moment"
    )


class SuppressedAnswer(BaseModel):
    """An item that would have stood in a list but for a rule."""

    item_id: str
    title: str | None
    rule: str
    reason: str


class ListAnswer(BaseModel):
    """A list, best first."""

    items: list[EntryAnswer]
    fallback: str | None = Field(description="why the most popular items are shown; null where the history was read")
    reason: str | None = Field(description="why the list is short or empty, where there is a reason")
    skipped: list[str] = Field(description="ids of the history that no item has")
    suppressed: list[SuppressedAnswer] = Field(description="what rules kept out of the list")


class WordAnswer(BaseModel):
    """A word of an item's text, and what it does for the score."""

    text: str
    start: int
    end: int
    attribution: float = Field(description="above 0, the word carries the item")


class ExplanationAnswer(BaseModel):
    """Why an item has its score."""

    item_id: str
    score: float
    sentence: str
    evidence: list[EvidenceAnswer]
    text: str = Field(description="of the item, in which words stand at their places")
    words: list[WordAnswer] | None = Field(description="null if not asked for, or nothing is known of the user")
    complete: bool | None = Field(description="whether the words add up to what the text does for the score")


class ExplanationsAnswer(BaseModel):
    """Explanations, in the order of the items that were asked for."""

    explanations: list[ExplanationAnswer]
    skipped: list[str] = Field(description="ids of the history that no item has")


class PastEventAnswer(BaseModel):
    """An event of a user."""

    event_id: str
    item_id: str
    title: str | None = Field(description="null where no item has the id")
    time_ms: int
    kind: str | None


class PastAnswer(BaseModel):
    """A user's newest events, newest first."""

    events: list[PastEventAnswer]


class ServiceAnswer(BaseModel):
    """What the service can be asked for."""

    items: int
    fields: dict[str, str | None] = Field(description="of items: number, text, texts, boolean; null if not known yet")
    rules: list[str] = Field(description="names of the rules at work")
    ages: bool = Field(description="whether a rule asks how old a user is")
    reranking: list[str] = Field(description="kinds of the steps that lists go through unless asked for otherwise")
    diversity: bool = Field(description="whether items have vectors, so that lists can be made more diverse")
    similar: bool = Field(description="whether similar items can be found")
    explains: bool
    words: bool = Field(description="whether words can be found that carry an item")
    new_items: bool = Field(description="whether items can be added")
    user_events: bool = Field(description="whether events of users are stored")
    event_kinds: list[str] | None = Field(description="the kinds of events that the run reads")
    template: str | None = Field(description="how the run makes an item's text of its columns")


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
