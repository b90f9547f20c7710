"""What a study is of: a study goes on only with the recipe, space, data and metric that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from peftrec.config import InputError
from peftrec.recipe import Recipe
from peftrec.training.same_recipe import FREE_SECTION, flatten
from peftrec.tuning.space import Space

# What decides no value of a trial: where things lie, how many users are scored at once.
_FREE: Final = (
    "output_dir",
    "data.root",
    "encoder.cache.folder",
    "evaluation.batch_users",
    "training.trackers",
    "data.item_fields",
)
_SHOWN: Final = 4


def identity_of(
    recipe: Recipe, space: Space, *, metric: str, sampler: str, pruner: str, seed: int, data_sha256: str | None
) -> dict[str, Any]:
    """Return what must stay the same while a study goes on, as flat keys and plain values."""
    keys = space.plain()
    searched = tuple(f"{key}." for key in keys)
    fixed = {
        key: value
        for key, value in flatten(recipe.to_dict()).items()
        if key not in _FREE and key not in keys and not key.startswith((*searched, FREE_SECTION))
    }
    return {
        **{f"recipe {key}": value for key, value in fixed.items()},
        **{f"space {key}": value for key, value in keys.items()},
        "metric": metric,
        "sampler": sampler,
        "pruner": pruner,
        "seed": seed,
        "data_sha256": data_sha256,
    }


def check_same(study: str, stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """See that a study is gone on with as it began.

    Raises:
        InputError: naming what differs.
    """
    keys = [*current, *(key for key in stored if key not in current)]
    changed = [
        f"{key} (then {stored.get(key, 'not there')!r}, now {current.get(key, 'not there')!r})"
        for key in keys
        if stored.get(key, _FREE) != current.get(key, _FREE)
    ]
    if changed:
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise InputError(
            f"{study}: was begun otherwise: {'; '.join(changed[:_SHOWN])}{more}. Put that back, or begin another study "
            f"(another folder, or another name)"
        )
