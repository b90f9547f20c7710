"""How good the rows of a table are: means with intervals, and how they differ from full fine-tuning.

Shapes: S seeds of a row, U users.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.benchmark.report.result import METRICS
from peftrec.benchmark.report.row import ResultTable, Row
from peftrec.evaluation import PairedTest, arm_test, crossed_interval, holm
from peftrec.evaluation.seed_spread import varying_means

LEVEL: Final = 0.95
"""Of the intervals; below 1 - LEVEL a p-value counts as significant."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """What the test cases say of a row.

    Args:
        means: of each metric, with intervals over users and seeds.
        kept: its share of full fine-tuning's NDCG@10; None for that itself and where there is no comparison.
        test: of the difference from it; None likewise.
        adjusted_p_value: after Holm's correction over the table.
    """

    means: dict[str, Estimate]
    kept: Estimate | None = None
    test: PairedTest | None = None
    adjusted_p_value: float | None = None

    @property
    def differs(self) -> bool:
        """Tell whether the difference is significant after the correction."""
        return self.adjusted_p_value is not None and self.adjusted_p_value <= 1 - LEVEL


def measure_quality(table: ResultTable) -> list[Quality]:
    """Measure each row of a table.

    Args:
        table: its rows are compared with its reference, where they were tested on the same cases.
    Returns:
        One a row.
    """
    found = [Quality(means={metric: _mean(row, metric) for metric in METRICS}) for row in table.rows]
    reference = table.reference
    if reference is None:
        return found
    compared = [place for place, row in enumerate(table.rows) if row is not reference and table.comparable(row)]
    tests = {place: _test(table.rows[place], reference) for place in compared}
    adjusted = holm([tests[place].p_value for place in compared])
    for place, p_value in zip(compared, adjusted, strict=True):
        found[place] = dataclasses.replace(
            found[place],
            kept=kept_share(
                table.rows[place].values(METRICS[0]),
                reference.values(METRICS[0]),
                paired=_paired(table.rows[place], reference),
            ),
            test=tests[place],
            adjusted_p_value=float(p_value),
        )
    return found


def kept_share(values_SU: NDArray[np.float64], full_SU: NDArray[np.float64], *, paired: bool) -> Estimate | None:
    """Compute which share of full fine-tuning's mean a method keeps, with an interval over users and seeds.

    R = mean(m) / mean(f), m and f a user's means over seeds. The interval is that of `crossed_interval` for the
    linearised ratio: each user counts R + (m - R f) / mean(f), and so does each seed. Where mean(f) is 0 there is none.

    Args:
        values_SU: the metric of every user in each run of the method.
        full_SU: of full fine-tuning, users in the same order.
        paired: whether run i of both has the same seed.
    Source:
        Linearisation of a ratio (delta method), as in Cochran (1977), Sampling Techniques, ch. 6. With some thousand
        users the mean of f is known well enough for it.
    """
    full = float(full_SU.mean())
    if full == 0:
        return None
    ratio = float(values_SU.mean()) / full
    linear_U = ratio + (values_SU.mean(axis=0) - ratio * full_SU.mean(axis=0)) / full
    varying = varying_means(values_SU.mean(axis=1) / full, ratio * full_SU.mean(axis=1) / full, paired)
    low, high = crossed_interval(linear_U, varying, level=LEVEL)
    return Estimate(value=ratio, low=low, high=high)


def _mean(row: Row, metric: str) -> Estimate:
    values_SU = row.values(metric)
    means_S = values_SU.mean(axis=1)
    low, high = crossed_interval(values_SU.mean(axis=0), [means_S] if len(means_S) > 1 else [], level=LEVEL)
    return Estimate(value=float(means_S.mean()), low=low, high=high)


def _test(row: Row, reference: Row) -> PairedTest:
    return arm_test(
        [run.cases for run in row.runs],
        [run.cases for run in reference.runs],
        METRICS[0],
        paired_seeds=_paired(row, reference),
        names=[run.name for run in (*row.runs, *reference.runs)],
        level=LEVEL,
    )


def _paired(row: Row, reference: Row) -> bool:
    return len(row.runs) > 1 and row.seeds == reference.seeds
