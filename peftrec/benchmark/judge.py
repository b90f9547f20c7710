"""What judges the rows of a data set: the same cases, ranked alike, and one metric that chooses among trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from peftrec.config import RecipeError
from peftrec.recipe import Recipe

_DATA: Final = ("split", "sample", "cleaning")


def require_one_judge(rows: Iterable[tuple[str, str, Recipe]]) -> None:
    """Refuse rows of one data set that would be tested or chosen otherwise than the first.

    Args:
        rows: data set, method and recipe of each.
    Raises:
        RecipeError: with the method and the key that differs.
    """
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    for dataset, method, recipe in rows:
        judge = _judge(recipe)
        other, others = first.setdefault(dataset, (method, judge))
        key = next((key for key in judge if judge[key] != others[key]), None)
        if key is not None:
            raise RecipeError(
                f"methods.{method} on {dataset}: {key} is {judge[key]}, that of {other} is {others[key]}; what judges "
                f"the rows of a data set is the same for all"
            )


def _judge(recipe: Recipe) -> dict[str, Any]:
    found = recipe.to_dict()
    data = {f"data.{key}": found["data"].get(key) for key in _DATA}
    return data | {"evaluation": found["evaluation"], "training.metric": found["training"]["metric"]}
