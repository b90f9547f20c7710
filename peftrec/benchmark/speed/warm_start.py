"""From the call of `train` to the end of the first step, imports done and the cache filled, in a process of its own.

`python -m peftrec.benchmark.speed.warm_start RECIPE a.b=c ...` measures one start and prints it as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peftrec.benchmark.speed.alternation import Spread
from peftrec.benchmark.speed.setting import PATHS, Setting


class _FirstStepError(Exception):
    """Ends a training after its first step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Seconds since `train` was called.

    Args:
        training: when data, model, cache and references were there, and training began.
        first_batch: when the untrained start was evaluated, and the first batch came.
        first_step: when the optimiser had stepped.
    """

    training: float
    first_batch: float
    first_step: float


def measure_starts(setting: Setting, path: str, users: int, rounds: int) -> dict[str, Any]:
    """Measure starts of one path, after one that fills the cache; return the seconds of each part.

    Args:
        setting: of the run.
        path: of `PATHS`.
        users: of a step.
        rounds: how often.
    """
    step = (f"training.batch_users={users}", "training.warmup_frozen_epochs=0")
    words = [str(setting.recipe), *setting.words(*PATHS[path], *step)]
    found = []
    for _ in range(rounds + 1):
        done = subprocess.run(
            [sys.executable, "-m", "peftrec.benchmark.speed.warm_start", *words], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"measuring a start failed:\n{done.stderr[-2000:]}")
        found.append(Start(**json.loads(done.stdout.splitlines()[-1])))
    parts = [field.name for field in dataclasses.fields(Start)]
    return {part: Spread(tuple(getattr(one, part) for one in found[1:])).plain() for part in parts}


def main(argv: list[str] | None = None) -> int:
    """Measure one start in this process and print it."""
    parser = argparse.ArgumentParser(prog="python -m peftrec.benchmark.speed.warm_start", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args(argv)
    sys.stdout.write(json.dumps(dataclasses.asdict(_start(arguments.recipe, arguments.overrides))) + "\n")
    return 0


def _start(recipe_file: Path, overrides: list[str]) -> Start:
    from peftrec.encoders import load_backbone
    from peftrec.methods import METHODS
    from peftrec.recipe import load_recipe
    from peftrec.run import train
    from peftrec.training import Trainer

    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(recipe_file, [*overrides, f"output_dir={folder}/run"])
        # What a backbone and a method import; both are let go.
        backbone = load_backbone(recipe.encoder.backbone, recipe.encoder.revision)
        METHODS.load(recipe.method.kind)().apply(backbone.model)
        times: dict[str, float] = {}

        class Watched(Trainer):
            def train(self, *, resume: bool = False) -> Any:
                stepper: Any = self.stepper
                stepped = stepper.step

                def step(*known: Any, **words: Any) -> None:
                    stepped(*known, **words)
                    times["first_step"] = time.perf_counter()
                    raise _FirstStepError

                stepper.step = step
                times["training"] = time.perf_counter()
                return super().train(resume=resume)

            def _accumulate(self, *known: Any) -> float:
                times.setdefault("first_batch", time.perf_counter())
                return super()._accumulate(*known)

        import peftrec.fitting

        peftrec.fitting.Trainer = Watched  # type: ignore[attr-defined]
        began = time.perf_counter()
        try:
            train(recipe)
        except _FirstStepError:
            return Start(**{name: moment - began for name, moment in times.items()})
    raise RuntimeError("training ended before its first step")


if __name__ == "__main__":
    sys.exit(main())
