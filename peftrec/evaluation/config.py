"""The `evaluation` section of a recipe."""

from dataclasses import dataclass
from typing import Annotated, Literal

from peftrec.config import Range
from peftrec.losses import PropensityConfig


@dataclass(frozen=True, kw_only=True)
class SampledCandidatesConfig:
    """A ranking of the target among a few drawn items, beside the one of the whole catalogue, to reproduce papers.

    Attributes:
        number: items drawn for each case: neither the target nor in the user's history, each at most once.
        by: `uniform`, or by `popularity` (in proportion to events in training; items without any are never drawn).
        seed: of the draws, which are the same for every model on the same data.
    """

    number: Annotated[int, Range(ge=1)] = 100
    by: Literal["uniform", "popularity"] = "uniform"
    seed: Annotated[int, Range(ge=0)] = 0

    @property
    def prefix(self) -> str:
        """What keys of metrics begin with, so that none is taken for one over the whole catalogue."""
        return f"sampled{self.number}_"

    def describe(self) -> str:
        """Return what the protocol says in the place of the whole catalogue."""
        return f"{self.number} sampled, {self.by}, seed {self.seed}"


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
        sampled_candidates: rank among a few drawn items too; None, which is right for all but reproducing papers, does
            not. Training and choices are made with the whole catalogue in any case.
        propensity: also estimate the metrics by inverse propensity of the targets, self-normalised; None does not.
    """

    ks: tuple[Annotated[int, Range(ge=1)], ...] = (10,)
    metrics: tuple[Literal["hr", "recall", "precision", "ndcg", "mrr", "map"], ...] = ("hr", "ndcg", "mrr")
    exclude_history: bool = True
    batch_users: Annotated[int, Range(ge=1)] = 512
    category: str | None = None
    impressions: str | None = None
    sampled_candidates: SampledCandidatesConfig | None = None
    propensity: PropensityConfig | None = None

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
        if self.sampled_candidates is not None and not self.exclude_history:
            raise ValueError(
                "sampled_candidates: draws items that the user has not had, but exclude_history is false; use true, or "
                "leave sampled_candidates out"
            )
