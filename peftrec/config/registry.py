"""Registries of `kind:` tags, one per choice a recipe offers."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from peftrec.config.error import RecipeError


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest known name, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{match[0]}'?" if match else ""


class Registry:
    """Maps `kind:` tags to the classes of frozen config sections, imported on first use.

    Args:
        family: what the tags choose among, as it appears in a recipe (`method`, `loss`).
        entries: tag to `"module:Class"`. The class has `kind: ClassVar[str]` equal to its tag.
    """

    def __init__(self, family: str, entries: Mapping[str, str]) -> None:
        self.family = family
        self._entries = dict(entries)

    def __repr__(self) -> str:
        return f"Registry({self.family!r}, {self.kinds()})"

    def kinds(self) -> tuple[str, ...]:
        """Return every tag, in the order of registration."""
        return tuple(self._entries)

    def load(self, kind: str) -> type[Any]:
        """Return the config class behind a tag.

        Raises:
            RecipeError: if there is no such tag; the message lists the tags there are.
        """
        if not isinstance(kind, str) or kind not in self._entries:
            hint = nearest(str(kind), self._entries)
            raise RecipeError(f"unknown {self.family} kind {kind!r}.{hint} Known: {', '.join(self._entries)}")
        module_name, _, class_name = self._entries[kind].partition(":")
        loaded: type[Any] = getattr(importlib.import_module(module_name), class_name)
        assert loaded.kind == kind, f"{self._entries[kind]} calls itself {loaded.kind!r}, registered as {kind!r}"
        return loaded

    def classes(self) -> dict[str, type[Any]]:
        """Return every tag with its class, importing all of them (for contract tests)."""
        return {kind: self.load(kind) for kind in self._entries}
