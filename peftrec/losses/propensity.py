"""How likely an item's events are to be seen at all, and the weights that make up for it.

Shapes: N items of the catalogue.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from peftrec.config import Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class PropensityConfig:
    """Where propensities come from: from training events or from a column, one of the two.

    Args:
        power: p = (n / max n)^power with n the training events of an item; .5 is usual for implicit feedback, 0 makes
            all alike. An item without training events counts as if it had one.
        column: the column of the items that holds p, above 0 and up to 1, for every item of the catalogue. The tables
            are read once more for it.
        clip: lower propensities are raised to it: less variance, and some of the bias again.
    """

    power: Annotated[float, Range(ge=0)] | None = None
    column: str | None = None
    clip: Annotated[float, Range(gt=0, le=1)] = 0.01

    def __post_init__(self) -> None:
        if (self.power is None) == (self.column is None):
            raise ValueError("propensities come from power or from column; give one of the two")

    @property
    def source(self) -> str:
        """What they come from, for people."""
        of = f"column {self.column!r}" if self.power is None else f"(n / max n)^{self.power:g}"
        return f"{of}, at least {self.clip:g}"


@dataclasses.dataclass(frozen=True, eq=False)
class ItemPropensities:
    """Propensities of the catalogue, clipped.

    Args:
        config: where they come from.
        values_N: p of every item, above 0 and up to 1.
    """

    config: PropensityConfig
    values_N: NDArray[np.float64]

    def target_weights(self, item_counts_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how much a target counts in a loss: 1 / p, over its mean over all training events; shape (N,).

        Args:
            item_counts_N: training events of every item, not all 0.
        Source:
            Schnabel et al. (2016), Recommendations as Treatments: Debiasing Learning and Evaluation, for errors
            weighted by inverse propensity; Saito et al. (2020), Unbiased Recommender Learning from
            Missing-Not-At-Random Implicit Feedback, for implicit feedback and for propensities by a power of
            popularity. There what was not seen is weighted too; here negatives stay what the loss makes of them.
        """
        weights_N = 1 / self.values_N
        result: NDArray[np.float64] = weights_N / np.average(weights_N, weights=item_counts_N)
        return result

    def describe(self, item_counts_N: NDArray[np.int64]) -> str:
        """Return a line for people: what weights there are, and to how many equal ones the events come.

        Args:
            item_counts_N: training events of every item, not all 0.
        """
        seen_N = item_counts_N > 0
        weights, counts = self.target_weights(item_counts_N)[seen_N], item_counts_N[seen_N]
        share = effective_number(weights, counts) / counts.sum()
        return (
            f"propensities: {self.config.source}; targets weigh {weights.min():.3g} to {weights.max():.3g}, as much as "
            f"{share:.0%} of as many equal ones"
        )


def item_propensities(
    config: PropensityConfig, item_counts_N: NDArray[np.int64], column_N: NDArray[np.float64] | None = None
) -> ItemPropensities:
    """Return max(clip, p) of every item.

    Args:
        config: says what p is.
        item_counts_N: training events of every item; where all are 0, all propensities by power are 1.
        column_N: what the column holds, where the config names one.
    """
    assert (column_N is None) == (config.column is None), "a column is read where it is named, and only there"
    if column_N is None:
        assert config.power is not None
        counts_N = np.maximum(item_counts_N, 1)
        column_N = (counts_N / counts_N.max()) ** config.power
    return ItemPropensities(config, np.maximum(column_N, config.clip))


def effective_number(weights: NDArray[np.float64], counts: NDArray[np.int64] | None = None) -> float:
    """Compute how many equal weights would say as much: (sum w)^2 / sum w^2.

    Args:
        weights: at least one, above 0.
        counts: how often each is there; once by default.
    Source:
        Kish (1965), Survey Sampling.
    """
    counts = np.ones(len(weights), dtype=np.int64) if counts is None else counts
    return float((weights * counts).sum() ** 2 / (weights**2 * counts).sum())
