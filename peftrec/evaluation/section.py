"""What a report is made of, whatever it is written as: sections of notes, tables and plots, and how values are told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text, a row each; the first column names the row, the others hold numbers but for those in `texts`."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[int, ...] = (0,)


@dataclasses.dataclass(frozen=True)
class Plot:
    """An SVG and the legend above it.

    Args:
        name: of its file.
        told: what it shows, for those who do not see it.
    """

    name: str
    told: str
    legend: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A headline, sentences below it, and what they are about."""

    title: str
    notes: tuple[str, ...]
    parts: tuple[Table | Plot, ...]


def plots_of(found: Sequence[Section]) -> list[Plot]:
    """Return the plots of some sections."""
    return [part for section in found for part in section.parts if isinstance(part, Plot)]


def number(value: float | None) -> str:
    """Return a number with four decimals, or with six where those would hide it; `-` where it is not defined."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.6f}"


def value_cell(row: Mapping[str, Any], key: str) -> str:
    """Return a metric with its interval in brackets, `-` where it is not defined.

    Args:
        row: what was found for a model: `metrics` and `intervals`.
        key: of the metric.
    """
    mean = row["metrics"].get(key)
    if mean is None or math.isnan(mean):
        return "-"
    low, high = row["intervals"][key]
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def metric_table(models: Mapping[str, Any], keys: Sequence[str]) -> Table:
    """Return a table with a row for each metric and a column for each model."""
    return Table(("", *models), tuple((key, *(value_cell(row, key) for row in models.values())) for key in keys))
