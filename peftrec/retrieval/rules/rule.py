"""What every rule is: it judges items one by one, or limits what stands in one list together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from peftrec.retrieval.recommendation import Item
from peftrec.retrieval.reranking.cap import HardCap


class Judge(Protocol):
    """A rule made ready for work."""

    def judge(self, items: Sequence[Item]) -> list[str | None]:
        """Return for each item why it is hidden, in a few words, or None where it may be shown.

        What cannot be judged in time is hidden, with that as the reason.
        """


class ItemRule:
    """A rule that looks at one item at a time.

    Attributes:
        name: of the rule; None where the file gives none.
    """

    kind: ClassVar[str]
    name: str | None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of items that it reads."""
        return ()

    @property
    def minimum_age(self) -> float | None:
        """Below which age of a user it holds; None: it holds for all."""
        return None

    def prepare(self) -> Judge:
        """Make ready what judging needs, such as a model.

        Raises:
            InputError: if that is not there.
        """
        raise NotImplementedError


class ListRule:
    """A rule that looks at a list.

    Attributes:
        name: of the rule; None where the file gives none.
    """

    kind: ClassVar[str]
    name: str | None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of items that it reads."""
        raise NotImplementedError

    def limit(self) -> HardCap:
        """Return the constraint that lists are made under."""
        raise NotImplementedError


Rule = ItemRule | ListRule
