"""The `debias` section of a recipe."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from peftrec.config import Range
from peftrec.losses.propensity import PropensityConfig

Weight = Annotated[float, Range(gt=0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PopularityPenaltyConfig:
    """A penalty on lists that are more popular than what people take.

    Args:
        weight: lambda; the term is the natural logarithm of training events, so 0.1 already counts beside a loss.
    """

    weight: Weight


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupPenaltyConfig:
    """A penalty on groups of items that are shown more or less than their part, in every batch.

    Batches of few users ask for more than lists over all users need: their users differ.

    Args:
        weight: lambda; the term lies between 0 and 2.
        column: the column of the items that names each item's group; items without a value are a group of their own,
            whose part is always that of the training events. The tables are read once more for it.
        popularity_bins: make so many groups by training events instead, at quantiles of the items; equals share one.
        part: what a group's part is: `uniform` (all the same), `catalogue` (its share of the items), or `training` (of
            the training events).
    """

    weight: Weight
    column: str | None = None
    popularity_bins: Annotated[int, Range(ge=2)] | None = None
    part: Literal["uniform", "catalogue", "training"] = "uniform"

    def __post_init__(self) -> None:
        if (self.column is None) == (self.popularity_bins is None):
            raise ValueError("groups come from column or from popularity_bins; give one of the two")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebiasConfig:
    """What is done against bias: targets weighed by how likely they were to be seen, penalties on what is shown.

    Args:
        propensity: the loss is weighted by inverse propensity; None counts all targets alike.
        popularity: see `PopularityPenaltyConfig`; None adds nothing.
        groups: see `GroupPenaltyConfig`; None adds nothing.
        max_logits: logits held at a time (4 bytes each).
    """

    propensity: PropensityConfig | None = None
    popularity: PopularityPenaltyConfig | None = None
    groups: GroupPenaltyConfig | None = None
    max_logits: Annotated[int, Range(ge=1)] = 8_000_000

    def __post_init__(self) -> None:
        if self.propensity is None and not self.has_penalty:
            raise ValueError("names nothing; give propensity, popularity or groups, or leave the section out")

    @property
    def has_penalty(self) -> bool:
        """Whether something is added to the loss."""
        return self.popularity is not None or self.groups is not None
