"""The propensities that a recipe asks for, of its catalogue."""

from __future__ import annotations

from peftrec.data import Dataset
from peftrec.losses import ItemPropensities, PropensityConfig, item_propensities
from peftrec.recipe import Recipe


def propensities_of(
    config: PropensityConfig | None, recipe: Recipe, dataset: Dataset, key: str
) -> ItemPropensities | None:
    """Return the propensities of the catalogue, or None where there is no section that asks for them.

    Args:
        config: a section of the recipe.
        recipe: whose tables are read once more where propensities come from a column.
        dataset: of the recipe.
        key: of the section, for messages.
    Raises:
        InputError: if the items have no such column, or an item of the catalogue has no propensity in it.
    """
    if config is None:
        return None
    column_N = None
    if config.column is not None:
        from peftrec.data.item_column import read_item_propensities  # loads polars

        column_N = read_item_propensities(recipe.data, config.column, dataset.catalogue.ids, key=f"{key}.column")
    return item_propensities(config, dataset.item_counts(), column_N)
