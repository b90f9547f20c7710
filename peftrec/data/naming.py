"""Names in messages: long lists cut short."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], *, limit: int = 30) -> str:
    """The names, joined with commas; a long list is cut and says how many are left out."""
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit:,} more"
