"""Quality against seconds: when each way of training is as good as full fine-tuning, and how much sooner that is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from peftrec.benchmark.speed.recipe_step import CONVENTIONAL
from peftrec.config import InputError

# Paths that the target comes from; warm-up with the language model frozen takes the seconds of `FROZEN`.
FULL, FROZEN = "full", "frozen"
SHARE = 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityRun:
    """What a run reached after each of its epochs.

    Args:
        path: its way of training.
        name: of the run.
        values: the validation metric, an entry an epoch.
        warmup_epochs: the first ones, in which the language model was frozen.
    """

    path: str
    name: str
    values: tuple[float, ...]
    warmup_epochs: int

    @property
    def best(self) -> float:
        """The highest value."""
        return max(self.values)

    def first_epoch(self, target: float) -> int | None:
        """Return the first epoch, from 1, at whose end the target is reached; None if there is none."""
        return next((epoch for epoch, value in enumerate(self.values, start=1) if value >= target), None)


@dataclasses.dataclass(frozen=True)
class EpochSeconds:
    """What epochs take on one idle machine.

    Our steps count whole, the smaller last one of an epoch too. A usual step takes so much a row: it counts by users.

    Args:
        steps: from `measure_steps`.
    """

    steps: Mapping[str, Any]

    def of(self, path: str, *, epochs: int, warmup_epochs: int = 0) -> float:
        """Return the seconds of so many epochs, the frozen ones among them first; evaluation is left out.

        Args:
            path: name of a recipe, or `conventional`.
            epochs: in all.
            warmup_epochs: of the run; the epochs may end in the middle of them.
        """
        frozen = min(epochs, warmup_epochs)
        return frozen * self._epoch(FROZEN) + (epochs - frozen) * self._epoch(path)

    def _epoch(self, path: str) -> float:
        seconds = float(self.steps["seconds"][path]["median"])
        if path == CONVENTIONAL:
            return seconds * float(self.steps["windows"]) / float(self.steps["batch_users"])
        return seconds * float(self.steps["steps_per_epoch"])


def summarise(
    runs: Sequence[QualityRun], steps: Mapping[str, Any], caching: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Find when each path reaches 99 % of the better of full fine-tuning and frozen text, and 99 % of full alone.

    Of each path the run counts that is there first, at the end of an epoch; where none is, its best one is told.
    The usual way of full fine-tuning takes the values of the path `full` and the seconds of the usual step.

    Args:
        runs: of all paths, `full` and `frozen` among them.
        steps: from `measure_steps`.
        caching: seconds of what is computed once, by path; None where that was not measured.
    Returns:
        `targets` by name, `better` and `full`; `paths` with `conventional` among them: best run, and for each target
        the run, epoch and seconds, and how many times as long the usual way takes (`ratio`, and `ratio_with_caching`);
        `ratio_at_least` where the usual way was not there at its last epoch, whose seconds then count. `own` is told
        alike of the best that the path itself reached.
    Raises:
        InputError: if `full` or `frozen` is missing.
    """
    paths = list(dict.fromkeys(run.path for run in runs))
    for name in (FULL, FROZEN):
        if name not in paths:
            raise InputError(f"paths: there is no run of '{name}', which the target comes from")
    best = {path: max((run for run in runs if run.path == path), key=lambda run: run.best) for path in paths}
    better = FULL if best[FULL].best >= best[FROZEN].best else FROZEN
    targets = {"better": SHARE * best[better].best, FULL: SHARE * best[FULL].best}
    clock = EpochSeconds(steps)
    found: dict[str, Any] = {}
    for path in [*paths, CONVENTIONAL]:
        of = FULL if path == CONVENTIONAL else path
        own = [run for run in runs if run.path == of]
        found[path] = {
            "best_run": best[of].name,
            "best": best[of].best,
            "best_epoch": best[of].first_epoch(best[of].best),
            "caching_seconds": None if caching is None else caching.get(path),
            "reached": {name: _reached(path, own, target, clock) for name, target in targets.items()},
        }
    for name in targets:
        usual = found[CONVENTIONAL]["reached"][name]
        seconds = usual["seconds"] if usual else clock.of(CONVENTIONAL, epochs=_most_epochs(runs))
        for path in paths:
            _compare(found[path], found[path]["reached"][name], seconds, at_least=usual is None)
    full = [run for run in runs if run.path == FULL]
    for path in paths:
        usual = _reached(CONVENTIONAL, full, best[path].best, clock)
        seconds = usual["seconds"] if usual else clock.of(CONVENTIONAL, epochs=_most_epochs(runs))
        found[path]["own"] = _reached(path, [best[path]], best[path].best, clock)
        found[path]["own_usual_epoch"] = usual["epoch"] if usual else None
        _compare(found[path], found[path]["own"], seconds, at_least=usual is None)
    return {"targets": targets, "target_of": better, "share": SHARE, "paths": found}


def _reached(path: str, runs: Sequence[QualityRun], target: float, clock: EpochSeconds) -> dict[str, Any] | None:
    """Return the run of a path that is at the target first, when, and after how many epochs."""
    there: list[dict[str, Any]] = []
    for run in runs:
        epoch = run.first_epoch(target)
        if epoch is not None:
            seconds = clock.of(path, epochs=epoch, warmup_epochs=run.warmup_epochs)
            there.append({"run": run.name, "epoch": epoch, "seconds": seconds})
    return min(there, key=lambda one: float(one["seconds"]), default=None)


def _compare(found: Mapping[str, Any], reached: dict[str, Any] | None, usual_seconds: float, *, at_least: bool) -> None:
    """Put ratios to what a path reached, if it did."""
    if reached is None:
        return
    reached["ratio_at_least" if at_least else "ratio"] = usual_seconds / reached["seconds"]
    if found["caching_seconds"] is not None:
        reached["ratio_with_caching"] = usual_seconds / (reached["seconds"] + found["caching_seconds"])


def _most_epochs(runs: Sequence[QualityRun]) -> int:
    return max(len(run.values) for run in runs if run.path == FULL)


def rounded(seconds: float) -> str:
    """Return seconds with three digits that count."""
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.{max(0, 2 - math.floor(math.log10(seconds)))}f}"
