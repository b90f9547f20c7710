"""Numbers as tables show them: three digits, and a unit that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_PREFIXES: Final = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_TIMES: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (0.0, "µs"))


def digits(value: float) -> str:
    """Return a number with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def with_prefix(value: float, unit: str = "") -> str:
    """Return a number with a prefix of thousands, as in `15.4 GB`; 0 is `0`."""
    for size, prefix in _PREFIXES:
        if value >= size * 0.9995:
            return f"{digits(value / size)} {prefix}{unit}".strip()
    return "0" if value == 0 else f"{digits(value)} {unit}".strip()


def duration(seconds: float) -> str:
    """Return a time in the largest unit of which there is one; 0 is `0`."""
    if seconds == 0:
        return "0"
    size, unit = next((size, unit) for size, unit in _TIMES if seconds >= size * 0.9995)
    return f"{digits(seconds / (size or 1e-6))} {unit}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
