"""The `evaluation` section of a recipe."""

from dataclasses import dataclass
from typing import Annotated

from peftrec.config import Range
from peftrec.losses import PropensityConfig


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How rankings are measured.

    Attributes:
        ks: cutoffs, distinct, each from 1; the first is the one shown first.
        exclude_history: leave the user's own history out of the ranking; a target inside it is then a miss.
        batch_users: users scored at once. Where a model has no second stage, memory does not depend on the catalogue;
            of other scores at most 256 MiB are held.
        propensity: also estimate the metrics by inverse propensity of the targets, self-normalised; None does not.
    """

    ks: tuple[Annotated[int, Range(ge=1)], ...] = (10,)
    exclude_history: bool = True
    batch_users: Annotated[int, Range(ge=1)] = 512
    propensity: PropensityConfig | None = None

    def __post_init__(self) -> None:
        if not self.ks:
            raise ValueError("ks must name at least one cutoff, such as [10]")
        if len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks must be distinct, got {list(self.ks)}")
