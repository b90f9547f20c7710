"""What a card cites."""

from __future__ import annotations

from typing import Any

from peftrec.publishing.card.documentation import source
from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.markdown import code, plain


def source_section(facts: Facts) -> str:
    """Return the section on published sources; empty where nothing has one."""
    recipe = facts.recipe
    parts: list[tuple[str, Any]] = []
    if facts.kind == "baseline":
        parts = [("Baseline", recipe.baseline)]
    elif facts.kind in ("text", "ids"):
        parts = [("Method", recipe.method)] if facts.kind == "text" else []
        if facts.kind == "text" and recipe.profile is not None and recipe.profile.method is not None:
            parts += [("Method for users", recipe.profile.method)]
        parts += [("User encoder", recipe.user), ("Scorer", recipe.scorer), ("Loss", recipe.loss)]
    lines = [f"- {name} {code(part.kind)}: {plain(source(part))}." for name, part in parts if source(part)]
    return "\n\n".join(["## Sources", "\n".join(lines)]) if lines else ""
