"""What a recipe sets beside seeds, places and tuned values: it must be equal within a row, and is told of a table."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

from peftrec.training.same_recipe import flatten

# What differs between runs of one row, or between machines.
_FREE: Final = ("training.seed", "output_dir", "data.root", "encoder.cache.folder", "training.processes")


def settings_of(recipe: Mapping[str, Any], tuned: Container[str] = ()) -> dict[str, Any]:
    """Return a recipe as dotted keys, without what may differ between the runs of a row.

    Args:
        recipe: of a result.
        tuned: dotted keys that were tuned, which are left out too.
    """
    return {key: value for key, value in flatten(dict(recipe)).items() if key not in _FREE and key not in tuned}


def changed_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys that differ, each with its value here and there.

    A key that one of them does not have is one that other code did not know; another kind shows in its `kind`.
    """
    keys = sorted(key for key in one.keys() & other.keys() if one[key] != other[key])
    return [f"{key} ({one[key]}, {other[key]} there)" for key in keys]
