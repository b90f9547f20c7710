"""The `profile` section of a recipe: what a language model reads about a user."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from peftrec.config import Range
from peftrec.methods import METHODS, MethodConfig
from peftrec.methods.lora import LoraConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """A user's attributes and history as one text, read by the backbone of the items.

    Encoders read attributes, then events from the newest to the oldest, and what does not fit is cut off at the end.
    Decoders read attributes, then events from the oldest to the newest, and the oldest that do not fit are left out;
    one pass gives a vector after every event. Attributes are those of `data.user_template`.

    With `fusion: alone` the history encoder is not built; of the section `user` only `max_history` is read.

    Args:
        method: what of the language model is trained for users; null shares the adapter of the items.
        fusion: `add` adds a linear map of the text vector to what the user encoder makes of the history, zero at the
            start; `alone` leaves the history encoder out, and starts from the similarity of the user's text to the
            items'.
        event_template: one event; {event} is the event's word (`data.event_words`), {item} the item's text.
        event: the word for an event where there are no kinds of events.
        separator: ends the attributes and every event.
        max_tokens: of the whole text, special tokens included.
        item_tokens: of one event; the rest of an item's text is cut.
        attribute_tokens: of the attributes.
    """

    method: Annotated[MethodConfig, METHODS] | None = dataclasses.field(default_factory=LoraConfig)
    fusion: Literal["add", "alone"] = "add"
    event_template: str = "{event} {item}"
    event: str = "liked"
    separator: str = ";"
    max_tokens: Annotated[int, Range(ge=8)] = 128
    item_tokens: Annotated[int, Range(ge=1)] = 16
    attribute_tokens: Annotated[int, Range(ge=1)] = 32

    def __post_init__(self) -> None:
        plain = self.event_template.replace("{event}", "", 1).replace("{item}", "", 1)
        if "{item}" not in self.event_template or "{" in plain or "}" in plain:
            raise ValueError(
                f"event_template: {self.event_template!r} must hold {{item}} once, may hold {{event}} once, and "
                f"nothing else in braces"
            )
        if not self.event.strip():
            raise ValueError("event: is empty; it is a word such as liked")
        # Special tokens and separators of the attributes and of one event take eight at most.
        needed = self.attribute_tokens + self.item_tokens + 8
        if self.max_tokens < needed:
            raise ValueError(
                f"max_tokens: {self.max_tokens} has no room for attributes and one event; use at least {needed}, or "
                f"lower attribute_tokens or item_tokens"
            )

    def event_text(self, word: str | None, item: str) -> str:
        """Return the text of one event."""
        return self.event_template.replace("{event}", word or self.event, 1).replace("{item}", item, 1)
