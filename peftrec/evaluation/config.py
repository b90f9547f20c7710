"""The `evaluation` section of a recipe."""

from dataclasses import dataclass
from typing import Annotated, Literal

from peftrec.config import Range


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How rankings are measured.

    Attributes:
        ks: cutoffs, distinct, each from 1; the first is the one shown first.
        metrics: of ranks, by name; that of `training.metric` is added. With one target a case recall is `hr`, map
            is `mrr`, and precision is `hr` over the cutoff.
        exclude_history: leave the user's own history out of the ranking; a target inside it is then a miss.
        batch_users: users scored at once. Where a model has no second stage, memory does not depend on the catalogue;
            of other scores at most 256 MiB are held.
        category: column of the items whose values (several, with `data.group_separator` between them) are the
            categories of diversity and calibration; None measures neither.
        impressions: file of impressions in the layout of MIND's `behaviors.tsv`, relative to `data.root`; the
            impressions' AUC (GAUC) is measured on it. None measures none.
    """

    ks: tuple[Annotated[int, Range(ge=1)], ...] = (10,)
    metrics: tuple[Literal["hr", "recall", "precision", "ndcg", "mrr", "map"], ...] = ("hr", "ndcg", "mrr")
    exclude_history: bool = True
    batch_users: Annotated[int, Range(ge=1)] = 512
    category: str | None = None
    impressions: str | None = None

    def __post_init__(self) -> None:
        if not self.ks:
            raise ValueError("ks must name at least one cutoff, such as [10]")
        if len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks must be distinct, got {list(self.ks)}")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics must be distinct, got {list(self.metrics)}")
        # The first cutoff's are what slices and curves show.
        missing = {"hr", "ndcg", "mrr"} - set(self.metrics)
        if missing:
            raise ValueError(f"metrics: {', '.join(sorted(missing))} must be among them, which reports stand on")
