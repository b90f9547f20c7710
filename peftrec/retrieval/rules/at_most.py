"""At most so many items of one value in a list."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from peftrec.config import Range
from peftrec.retrieval.reranking.cap import HardCap
from peftrec.retrieval.rules.rule import ListRule


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtMost(ListRule):
    """Let no list hold more items of one value; unlike the cap of re-ranking, the list rather is shorter.

    Args:
        field: whose values are counted; an item of several counts for each, one without a value for none.
        most: items of one value in a list.
        name: of the rule; None names it by kind and place.
    """

    kind: ClassVar[str] = "at_most"
    field: str
    most: Annotated[int, Range(ge=1)]
    name: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The one that is counted."""
        return (self.field,)

    def limit(self) -> HardCap:
        """Return the cap."""
        return HardCap(field=self.field, most=self.most)
