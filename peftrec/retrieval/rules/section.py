"""The file of rules."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from peftrec.config import RecipeError, Registry, parse_section, read_yaml
from peftrec.retrieval.rules.audit import Audit
from peftrec.retrieval.rules.rule import Rule

RULES = Registry(
    "rule",
    {
        "hide_items": "peftrec.retrieval.rules.hide_items:HideItems",
        "hide_matching": "peftrec.retrieval.rules.matching:HideMatching",
        "show_only": "peftrec.retrieval.rules.matching:ShowOnly",
        "hide_text": "peftrec.retrieval.rules.hide_text:HideText",
        "at_most": "peftrec.retrieval.rules.at_most:AtMost",
        "minimum_age": "peftrec.retrieval.rules.minimum_age:MinimumAge",
        "classifier": "peftrec.retrieval.rules.classifier:Classifier",
    },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleFile:
    """Hard rules and where it is written down what they hid.

    Args:
        rules: all of them hold; of several that hide an item the first is named.
        audit: a log of what was hidden; None writes none.
    """

    rules: tuple[Annotated[Rule, RULES], ...]
    audit: Audit | None = None

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("rules: is empty; name at least one rule")
        seen: set[str] = set()
        for name in self.names:
            if name in seen:
                raise ValueError(f"rules: two are named '{name}'; names tell them apart in counts and logs")
            seen.add(name)

    @property
    def names(self) -> tuple[str, ...]:
        """What each rule is called, by default its kind and its place, from 1."""
        return tuple(rule.name or f"{rule.kind} {place}" for place, rule in enumerate(self.rules, start=1))


def read_rules(path: str | Path) -> RuleFile:
    """Read a YAML file of rules.

    Raises:
        RecipeError: naming file, rule and key.
    """
    values = read_yaml(path)
    try:
        return parse_section(RuleFile, values)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
