"""What a suite would do: every run with its state, and what those that are missing will take."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

from peftrec.benchmark.estimate import Estimate, Estimator
from peftrec.benchmark.plan import Plan, PlannedRun
from peftrec.benchmark.result_folder import Result, reached
from peftrec.benchmark.runner import SuiteRunner
from peftrec.benchmark.settings import Settings

State = Literal["done", "failed", "refused", "missing"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecastRun:
    """A run of a suite.

    Args:
        name: of the run; where its values wait for trials, they are left open.
        state: `failed` runs are not run again unless asked for, and neither are those whose result is `refused`.
        estimate: None where it has a result.
    """

    name: str
    state: State
    estimate: Estimate | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """All runs of a suite, in the order in which they would be made.

    Args:
        runs: each once.
        troubles: why the suite would refuse to run here, if it would, and why results of its runs do not count.
        strangers: results in the folder that are of no run of the suite.
    """

    runs: tuple[ForecastRun, ...]
    troubles: tuple[str, ...]
    strangers: tuple[str, ...] = ()

    @property
    def num_missing(self) -> int:
        """Return how many are to be made."""
        return len(self._missing())

    @property
    def num_unknown(self) -> int:
        """Return of how many of them nothing tells the time."""
        return sum(estimate.seconds is None for estimate in self._missing())

    @property
    def seconds(self) -> float | None:
        """Return the seconds of those whose time is known; None if nothing tells that of any."""
        known = [estimate.seconds for estimate in self._missing() if estimate.seconds is not None]
        return sum(known) if known or not self._missing() else None

    @property
    def memory_mib(self) -> float | None:
        """Return the largest memory that is known."""
        return max((estimate.memory_mib for estimate in self._missing() if estimate.memory_mib), default=None)

    def _missing(self) -> list[Estimate]:
        return [run.estimate for run in self.runs if run.estimate is not None]


def forecast(plan: Plan, settings: Settings) -> Forecast:
    """Tell what `run_suite` would do; nothing is run, and no backbone is opened.

    Args:
        plan: of the suite.
        settings: how it would be run.
    """
    runner = SuiteRunner(plan, settings, lambda _: None)
    contents = runner.contents()
    estimator = Estimator(contents.values(), functools.partial(machine_flops, settings.threads), settings.places)
    metrics = {name: reached(content) for name, content in contents.items()}
    progress = runner.progress()
    runs = [
        ForecastRun(name=run.name, state="refused", estimate=None)
        if run.name in progress.refused
        else _forecast(run, run.name, contents.get(run.name), estimator)
        for run in plan.runs(metrics)
    ]
    runs += [_forecast(run, run.open_name, None, estimator) for run in plan.waiting(metrics)]
    trouble = runner.trouble()
    return Forecast(
        runs=tuple(run for run in runs if settings.wants(run.name)),
        troubles=(*([] if trouble is None else [trouble]), *progress.refused.values()),
        strangers=progress.strangers,
    )


def _forecast(run: PlannedRun, name: str, content: Result | None, estimator: Estimator) -> ForecastRun:
    if content is None:
        return ForecastRun(name=name, state="missing", estimate=estimator.estimate(run))
    return ForecastRun(name=name, state="done" if reached(content) is not None else "failed", estimate=None)


def machine_flops(threads: int) -> float:
    """Measure the floating point operations a second of this machine.

    Args:
        threads: of a run; their number here is as it was afterwards.
    """
    import torch

    from peftrec.benchmark.speed.machine import GemmPeak

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return GemmPeak(size=1024).measure()
    finally:
        torch.set_num_threads(before)
