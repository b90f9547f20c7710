"""What an evaluation found, per user."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.evaluation.bootstrap import bootstrap_interval
from peftrec.evaluation.propensity import snips_block
from peftrec.losses import ItemPropensities
from peftrec.metrics import rank_keys


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Ranks and metrics of one model on one set of C cases.

    Where users have several targets, means, intervals and tests are over users, of each user's mean over targets: every
    user counts alike, and a user's targets, which are not independent, are drawn together.

    Attributes:
        users: user index of each case, shape (C,).
        targets: item index of its target, shape (C,).
        ranks: place of the target in the whole catalogue, 1 is best, `MISS` where it cannot be ranked, shape (C,).
        per_user: each metric (`hr@10`) for each case, shape (C,); NaN where it is not defined for one (diversity of a
            list of one item), which no mean counts.
        repeat_target_share: share of cases whose target already lies in the user's full history, excluded or not.
        num_items: size of the catalogue that was ranked.
        exclude_history: whether the full history was left out of the ranking.
        overall: values of all lists together, such as `coverage@10`, which no single user has.
        catalogue: what was ranked: `full`, or which items were drawn.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    ranks: NDArray[np.int64]
    per_user: dict[str, NDArray[np.float64]]
    repeat_target_share: float
    num_items: int
    exclude_history: bool
    overall: dict[str, float] = field(default_factory=dict)
    catalogue: str = "full"

    def __post_init__(self) -> None:
        for name, values in {"targets": self.targets, "ranks": self.ranks, **self.per_user}.items():
            assert values.shape == self.users.shape, f"{name} has shape {values.shape}, users {self.users.shape}"

    @property
    def num_cases(self) -> int:
        """Number of targets ranked."""
        return len(self.users)

    @property
    def num_users(self) -> int:
        """Number of users evaluated."""
        return len(np.unique(self.users))

    def user_means(self) -> dict[str, NDArray[np.float64]]:
        """Give each metric for each user, the mean over the user's targets; users ascending if any has several.

        NaN where a metric is defined for none of them.
        """
        users, row_C = np.unique(self.users, return_inverse=True)
        if len(users) == len(self.users):
            return self.per_user
        return {key: _means(row_C, values) for key, values in self.per_user.items()}

    def defined(self) -> dict[str, NDArray[np.float64]]:
        """Give what `user_means` does, of those users alone for whom a metric is defined; it may be nobody."""
        return {key: values[~np.isnan(values)] for key, values in self.user_means().items()}

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Evaluation:
        """Return the evaluation of some of the cases; what is of all lists together is left out.

        Args:
            rows: of the cases; at least one.
        Raises:
            ValueError: if there is none.
        """
        if not len(self.users[rows]):
            raise ValueError("there is no case in it")
        per_user = {key: values[rows] for key, values in self.per_user.items()}
        users, targets, ranks = self.users[rows], self.targets[rows], self.ranks[rows]
        return replace(self, users=users, targets=targets, ranks=ranks, per_user=per_user, overall={})

    def only(self, metrics: Iterable[str]) -> Evaluation:
        """Return the evaluation with some of the metrics alone; what is of all lists together is left out."""
        return replace(self, per_user={key: self.per_user[key] for key in metrics}, overall={})

    def summary(self) -> dict[str, float]:
        """Compute the mean over users of each metric; NaN where it is defined for nobody."""
        return {key: float(values.mean()) if len(values) else float("nan") for key, values in self.defined().items()}

    def intervals(self, level: float = 0.95, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Compute the bootstrap interval over users of each metric.

        Args:
            level: share of resampled means inside, between 0 and 1.
            seed: seed of the draws.
        Returns:
            Low and high end for each metric that is defined for somebody.
        Raises:
            ValueError: if level is not between 0 and 1.
        """
        found = self.defined()
        return {key: bootstrap_interval(values, level=level, seed=seed) for key, values in found.items() if len(values)}

    def protocol(self) -> dict[str, Any]:
        """State the rules that the ranks were made under; results are comparable where these are equal."""
        return {
            "catalogue": self.catalogue,
            "num_items": self.num_items,
            "history": "excluded" if self.exclude_history else "ranked",
            "target_in_history": "miss" if self.exclude_history else "ranked",
            "ties": "against the model",
        }

    def to_json(
        self, level: float = 0.95, seed: int = 0, propensities: ItemPropensities | None = None
    ) -> dict[str, Any]:
        """Give means, intervals and protocol as plain JSON values; nothing in it tells of a single user.

        Args:
            level: level of the intervals, between 0 and 1.
            seed: seed of their draws.
            propensities: of the catalogue, where metrics are to be estimated by them too.
        Returns:
            The keys `metrics`, `intervals`, `interval_level`, `num_cases`, `num_users`, `repeat_target_share` and
            `protocol`; `overall` where there is such; `num_defined`, users by metric, where it is not all; with
            propensities `snips` of the metrics of ranks too, see `snips_block`. A metric that is defined for nobody is
            None, and has no interval.
        Raises:
            ValueError: if level is not between 0 and 1.
        """
        num_users = self.num_users
        defined = {key: len(values) for key, values in self.defined().items()}
        partly = {key: number for key, number in defined.items() if number < num_users}
        overall = {key: None if math.isnan(value) else value for key, value in self.overall.items()}
        snips = {}
        if propensities is not None:
            # What lists are like is not seen with a chance: there is nothing to weigh.
            ranked = {key: self.per_user[key] for key in rank_keys(self.per_user)}
            snips["snips"] = snips_block(ranked, self.targets, self.users, propensities, level=level, seed=seed)
        return {
            "metrics": {key: mean if defined[key] else None for key, mean in self.summary().items()},
            "intervals": {key: list(ends) for key, ends in self.intervals(level, seed).items()},
            **({"overall": overall} if overall else {}),
            **({"num_defined": partly} if partly else {}),
            "interval_level": level,
            "num_cases": self.num_cases,
            "num_users": num_users,
            "repeat_target_share": self.repeat_target_share,
            "protocol": self.protocol(),
            **snips,
        }


def _means(row_C: NDArray[np.int64], values_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the cases of each user, of those that are defined."""
    defined_C = ~np.isnan(values_C)
    counts_U = np.bincount(row_C, defined_C)
    sums_U = np.bincount(row_C, np.where(defined_C, values_C, 0.0))
    means_U: NDArray[np.float64] = np.divide(sums_U, counts_U, out=np.full(len(counts_U), np.nan), where=counts_U > 0)
    return means_U
