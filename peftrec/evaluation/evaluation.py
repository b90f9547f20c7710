"""What an evaluation found, per user."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.evaluation.bootstrap import bootstrap_interval
from peftrec.evaluation.propensity import snips_block
from peftrec.losses import ItemPropensities


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Ranks and metrics of one model on one set of C cases.

    Where users have several targets, means, intervals and tests are over users, of each user's mean over targets: every
    user counts alike, and a user's targets, which are not independent, are drawn together.

    Attributes:
        users: user index of each case, shape (C,).
        targets: item index of its target, shape (C,).
        ranks: place of the target in the whole catalogue, 1 is best, `MISS` where it cannot be ranked, shape (C,).
        per_user: each metric (`hr@10`) for each case, shape (C,).
        repeat_target_share: share of cases whose target already lies in the user's full history, excluded or not.
        num_items: size of the catalogue that was ranked.
        exclude_history: whether the full history was left out of the ranking.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    ranks: NDArray[np.int64]
    per_user: dict[str, NDArray[np.float64]]
    repeat_target_share: float
    num_items: int
    exclude_history: bool

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
        """Give each metric for each user, the mean over the user's targets; users ascending if any has several."""
        users, row_C = np.unique(self.users, return_inverse=True)
        if len(users) == len(self.users):
            return self.per_user
        counts = np.bincount(row_C)
        return {key: np.bincount(row_C, values) / counts for key, values in self.per_user.items()}

    def summary(self) -> dict[str, float]:
        """Compute the mean over users of each metric."""
        return {key: float(values.mean()) for key, values in self.user_means().items()}

    def intervals(self, level: float = 0.95, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Compute the bootstrap interval over users of each metric.

        Args:
            level: share of resampled means inside, between 0 and 1.
            seed: seed of the draws.
        Returns:
            Low and high end for each metric.
        Raises:
            ValueError: if level is not between 0 and 1.
        """
        return {key: bootstrap_interval(values, level=level, seed=seed) for key, values in self.user_means().items()}

    def protocol(self) -> dict[str, Any]:
        """State the rules that the ranks were made under; results are comparable where these are equal."""
        return {
            "catalogue": "full",
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
            `protocol`; with propensities `snips` too, see `snips_block`.
        Raises:
            ValueError: if level is not between 0 and 1.
        """
        snips = {}
        if propensities is not None:
            snips["snips"] = snips_block(self.per_user, self.targets, self.users, propensities, level=level, seed=seed)
        return {
            "metrics": self.summary(),
            "intervals": {key: list(ends) for key, ends in self.intervals(level, seed).items()},
            "interval_level": level,
            "num_cases": self.num_cases,
            "num_users": self.num_users,
            "repeat_target_share": self.repeat_target_share,
            "protocol": self.protocol(),
            **snips,
        }
