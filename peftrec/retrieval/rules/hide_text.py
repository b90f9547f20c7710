"""Never show items whose text has a pattern."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

from peftrec.config import InputError
from peftrec.retrieval.recommendation import Item
from peftrec.retrieval.rules.rule import ItemRule, Judge

SECONDS: Final = 0.05
"""So long a pattern may look at one text; patterns that go back and forth can take years."""
LATE: Final = "could not be checked in time"

On = Literal["title", "text"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HideText(ItemRule):
    r"""Never show items where a regular expression is found.

    Args:
        pattern: as the package `regex` (and, but for rare cases, `re`) reads it, such as `\b(knife|knives)\b`. On one
            text it may take 50 ms of the processor; an item that takes longer is hidden.
        on: what is searched, `title` and `text`, each by itself.
        ignore_case: whether capitals do not matter.
        name: of the rule; None names it by kind and place.
    """

    kind: ClassVar[str] = "hide_text"
    pattern: str
    on: tuple[On, ...] = ("title", "text")
    ignore_case: bool = True
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.pattern.strip():
            raise ValueError("pattern: is empty; it would be found in every text")
        if not self.on:
            raise ValueError("on: is empty; name title, text or both")
        try:
            everywhere = _compiled(self).search("", timeout=SECONDS) is not None
        except TimeoutError:
            everywhere = False
        if everywhere:
            raise ValueError(f"pattern: {self.pattern!r} is found in an empty text, so in every one")

    def prepare(self) -> Judge:
        """Compile the pattern."""
        return _ByPattern(self)


class _ByPattern:
    def __init__(self, rule: HideText) -> None:
        self._pattern, self._on = _compiled(rule), rule.on

    def judge(self, items: Sequence[Item]) -> list[str | None]:
        return [self._reason(item) for item in items]

    def _reason(self, item: Item) -> str | None:
        for name in self._on:
            try:
                found = self._pattern.search(getattr(item, name), timeout=SECONDS, concurrent=True)
            except TimeoutError:
                return LATE
            if found is not None:
                return f"its {name} has '{found.group()[:40]}'"
        return None


def _compiled(rule: HideText) -> Any:
    import regex  # part of what transformers stands on; unlike `re` it can be told to stop

    try:
        return regex.compile(rule.pattern, regex.IGNORECASE if rule.ignore_case else 0)
    except regex.error as error:
        raise InputError(f"pattern: {rule.pattern!r} is no regular expression ({error})") from None
