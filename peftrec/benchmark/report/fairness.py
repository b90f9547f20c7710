"""Whether the rows of a table had the same chances: how much each was tuned, on what, and what else differs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.settings import settings_of

# What makes the method, and which language model it is.
_OWN: Final = ("method.", "baseline.", "encoder.backbone", "encoder.revision")
_SHOWN_KEYS: Final = 8


def budgets(measured: MeasuredTable) -> Iterator[str]:
    """Say how much each method was tuned, and which settings were."""
    by_budget, by_axes = defaultdict(list), defaultdict(list)
    for line in measured.models:
        by_budget[_budget(line)].append(name_of(line))
        by_axes[", ".join(sorted(line.row.first.run["values"]))].append(name_of(line))
    if len(by_budget) == 1:
        yield f"Every model had the same tuning: {next(iter(by_budget))}. Validation alone chose."
    elif by_budget:
        told = "; ".join(f"{budget}: {listed(names)}" for budget, names in sorted(by_budget.items()))
        yield f"Tuning differs, which favours those with more trials. {told}."
    if len(by_axes) > 1:
        axes = "; ".join(f"{axis or 'nothing'} of {listed(names)}" for axis, names in sorted(by_axes.items()))
        yield f"Not the same settings were tuned: {axes}."


def other_settings(measured: MeasuredTable) -> Iterator[str]:
    """Name the models whose recipes differ from most in more than the method, and the keys."""
    recipes = {
        line: {
            key: value
            for key, value in settings_of(line.row.first.content["recipe"], line.row.first.run["values"]).items()
            if not key.startswith(_OWN)
        }
        for line in measured.models
    }
    usual = {
        key: Counter(repr(recipe.get(key)) for recipe in recipes.values()).most_common(1)[0][0]
        for key in sorted({key for recipe in recipes.values() for key in recipe})
    }
    tuned = {key for line in measured.models for key in line.row.first.run["values"]}
    found = []
    for line, recipe in recipes.items():
        keys = [key for key, value in usual.items() if key not in tuned and repr(recipe.get(key)) != value]
        if keys:
            more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
            found.append(f"{name_of(line)} ({', '.join(keys[:_SHOWN_KEYS])}{more})")
    if found:
        yield f"Not the method alone differs from most models of the table for {listed(found)}."


def name_of(line: Line) -> str:
    """Return what a line is called, in quotes where a list of names would take it for two."""
    return f"'{line.row.label}'" if "," in line.row.label else line.row.label


def listed(names: Iterable[str]) -> str:
    """Return names with commas between them."""
    return ", ".join(names) or "none"


def _budget(line: Line) -> str:
    row = line.row
    if row.tuned_on is not None:
        return f"no trials here, the best values of {row.tuned_on}"
    if row.num_trials == 0:
        return "no trials"
    failed = f", {row.num_failed} of which failed" if row.num_failed else ""
    return f"{row.num_trials} trial{'s' if row.num_trials > 1 else ''}{failed}"
