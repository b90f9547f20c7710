"""What a step costs against history length, batch, catalogue and tuned layers: measured, stored and drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from peftrec.benchmark.speed.alternation import Runner, alternate
from peftrec.benchmark.speed.drawing import draw_curves
from peftrec.benchmark.speed.padded import PaddedTraining
from peftrec.benchmark.speed.path_comparison import TRAINED
from peftrec.benchmark.speed.report import Results
from peftrec.benchmark.speed.setting import PATHS, Setting, Workload, make_workload
from peftrec.benchmark.speed.step_trainer import StepTrainer
from peftrec.benchmark.speed.suite import Suite
from peftrec.data import UserBatch

_PATHS = ("lora_all", "lora_top2", "side")
_TURNS = 2
_WARM_USERS = 16


class _Step:
    """Runs a step on one batch."""

    def __init__(self, trainer: StepTrainer, batch: UserBatch) -> None:
        self.trainer, self.batch = trainer, batch

    def __call__(self, number: int) -> float:
        del number
        return self.trainer.timed_step(self.batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """The points of the curves.

    Args:
        histories: inputs of a position.
        batches: users of a step.
        catalogues: items, where the loss is over all of them.
        layers: tuned layers.
        users: of a step, where it is not the batch that varies.
    """

    histories: tuple[int, ...] = (5, 10, 20, 40)
    batches: tuple[int, ...] = (16, 64, 256)
    catalogues: tuple[int, ...] = (1000, 2000, 4000)
    layers: tuple[int, ...] = (1, 2, 4, 6)
    users: int = 64


SMOKE_AXES = Axes(histories=(2, 3), batches=(2, 4), catalogues=(10, 20), layers=(1, 2), users=4)


def measure_curves(suite: Suite, results: Results, target: Path, axes: Axes) -> None:
    """Measure all curves, keep them as the block `curves` after each, and draw them.

    Args:
        suite: data and settings.
        results: of the run.
        target: without an ending; `-curves.svg` and `-curves.png` are put behind it.
        axes: their points.
    """
    curves: dict[str, list[dict[str, Any]]] = {}
    points: dict[str, list[Callable[[], dict[str, Any]]]] = {
        "history": [partial(_point, suite, length, axes.users, history=length) for length in axes.histories],
        "users": [partial(_point, suite, users, users) for users in axes.batches],
        "layers": [partial(_layers, suite, number, axes.users) for number in axes.layers],
        "catalogue": [partial(_catalogue, suite, number, axes.users) for number in axes.catalogues],
    }
    for name, measures in points.items():
        suite.say(f"curve: {name}")
        curves[name] = [measure() for measure in measures]
        results.keep("curves", {"curves": curves})
    for path in draw_curves(curves, target):
        suite.say(str(path))


def _point(suite: Suite, place: int, users: int, *, history: int | None = None) -> dict[str, Any]:
    """Time our paths and padded LoRA at one history length and batch."""
    setting = suite.setting if history is None else dataclasses.replace(suite.setting, history=history)
    work = make_workload(suite.dataset, setting.load(), users=users, number=1, seed=setting.seed)
    ours = {path: StepTrainer(setting.load(*PATHS[path]), work.dataset) for path in _PATHS}
    theirs = PaddedTraining("lora", setting.load(*PATHS[TRAINED["lora"]]), work.dataset, ours["lora_all"].model)
    suite.comparison.find_best("padded_lora", theirs, work.batches[0])
    # As many rows as were best at the usual history.
    size = suite.comparison.micro_users("padded_lora", theirs.width)
    batch, warm = work.batches[0], work.batches[0].rows(0, _WARM_USERS)
    few = max(1, _WARM_USERS // size)
    runners: dict[str, Runner] = {path: _Step(trainer, batch) for path, trainer in ours.items()}
    runners["padded_lora"] = lambda _: theirs.timed_step(batch, size, at_most=few)
    warm_up: dict[str, Runner] = {path: _Step(trainer, warm) for path, trainer in ours.items()}
    turns = alternate(runners, _TURNS, warm_up=warm_up, gemm_size=suite.extent.gemm_size)
    items = len(ours["lora_all"].tokens(batch))
    return {"at": place, "items": items, **{name: spread.plain() for name, spread in turns.seconds.items()}}


def _layers(suite: Suite, number: int, users: int) -> dict[str, Any]:
    """Time LoRA on the top layers, the states below them stored."""
    setting = suite.setting
    work = make_workload(suite.dataset, setting.load(), users=users, number=1, seed=setting.seed)
    return {"at": number, **_time(suite, setting, {"lora": ("method.kind=lora", f"method.layers={number}")}, work)}


def _catalogue(suite: Suite, number: int, users: int) -> dict[str, Any]:
    """Time losses over the whole catalogue, all of it encoded in each step, and over the batch."""
    setting = suite.setting
    work = make_workload(suite.dataset, setting.load(), users=users, number=1, seed=setting.seed, num_items=number)
    whole = "loss.kind=full_softmax"
    paths = {
        "lora_top2_all_items": (*PATHS["lora_top2"], whole),
        "side_all_items": (*PATHS["side"], whole),
        "lora_top2": PATHS["lora_top2"],
        "side": PATHS["side"],
    }
    return {"at": len(work.dataset.catalogue), **_time(suite, setting, paths, work)}


def _time(suite: Suite, setting: Setting, paths: dict[str, tuple[str, ...]], work: Workload) -> dict[str, Any]:
    runners: dict[str, Runner] = {
        name: _Step(StepTrainer(setting.load(*overrides), work.dataset), work.batches[0])
        for name, overrides in paths.items()
    }
    turns = alternate(runners, _TURNS, gemm_size=suite.extent.gemm_size)
    return {name: spread.plain() for name, spread in turns.seconds.items()}
