"""`measure_cost(recipe)`: what its training steps, its catalogue and its queries take."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from typing import Any

from peftrec.benchmark.code_version import measuring_code
from peftrec.benchmark.cost.idle import require_idle
from peftrec.benchmark.cost.latency import measure_queries, spread
from peftrec.benchmark.cost.memory import TrainingMemory
from peftrec.benchmark.cost.steps import WatchedTraining
from peftrec.benchmark.speed.machine import BUSY, OtherWork
from peftrec.config import InputError, RecipeError
from peftrec.data import load_dataset
from peftrec.encoders import load_backbone
from peftrec.frozen import fill_cache
from peftrec.launch import require_one_process
from peftrec.publishing.environment import describe_environment
from peftrec.recipe import Recipe

Say = Callable[[str], None]


def measure_cost(
    recipe: Recipe, *, num_steps: int = 30, wait_seconds: float = 0.0, exclusive: bool = True, say: Say | None = None
) -> dict[str, Any]:
    """Measure what a recipe costs, in this process, which is to do nothing else.

    Steps are those of its method: frozen epochs at the start are left out. What the frozen backbone gives is computed
    first, into a folder that is thrown away, and timed apart.

    Args:
        recipe: resolved; of a model.
        num_steps: steps that are timed, after three that are not.
        wait_seconds: how long the machine may take to fall idle.
        exclusive: refuse while something else computes; False tells in `other_work` how much there was.
        say: is handed one line at a time.
    Returns:
        `cost` of the published form of a result.
    Raises:
        RecipeError: if the recipe is one of a baseline or of several processes, there are no steps, or steps are not
            alike: with `training.encoder_interval` above 1 few of them hold the work of the language model.
        InputError: if the machine is busy, or was busy meanwhile.
    """
    say = say or (lambda _: None)
    if num_steps < 1:
        raise RecipeError(f"steps: {num_steps} is too small; it must be at least 1")
    _require_like_steps(recipe)
    require_one_process()
    if exclusive:
        require_idle(wait_seconds, say)
    with tempfile.TemporaryDirectory(prefix="peftrec-cost-") as folder, OtherWork() as watch:
        found = _measure(_with_cache(recipe, folder), num_steps, say)
    if exclusive and watch.share is not None and watch.share > BUSY:
        raise InputError(
            f"other processes took {watch.share:.0%} of the machine while costs were measured, more than {BUSY:.0%}; "
            f"measure again"
        )
    share = None if watch.share is None else round(watch.share, 4)
    environment = describe_environment() | {"measured_by": measuring_code()}
    return {"environment": environment, "other_work": share} | found


def _measure(recipe: Recipe, num_steps: int, say: Say) -> dict[str, Any]:
    dataset = load_dataset(recipe.data)
    prepare_seconds = 0.0
    if recipe.encoder.uses_text:
        load_backbone(recipe.encoder.backbone, recipe.encoder.revision)  # and let it go: its imports stay
        began = time.perf_counter()
        fill_cache(recipe, lambda _: None)
        prepare_seconds = time.perf_counter() - began
        say(f"prepared in {prepare_seconds:.1f} s")
    memory = TrainingMemory()
    training = WatchedTraining(recipe, dataset, num_steps)
    steps = training.run(lambda: memory.begin(training.model), memory.end)
    seconds = spread(steps.seconds)
    say(f"{num_steps} steps, {seconds['median']:.3f} s in the median")
    queries = measure_queries(training.model, dataset, recipe.method)
    tokens, positions = sum(steps.tokens) / num_steps, sum(steps.positions) / num_steps
    return {
        "num_steps": num_steps,
        "step_seconds": seconds,
        "steps_per_epoch": training.steps_per_epoch,
        "tokens_a_step": tokens,
        "positions_a_step": positions,
        "tokens_a_second": tokens / seconds["median"],
        "positions_a_second": positions / seconds["median"],
        "flops_a_step": steps.flops,
        "prepare_seconds": round(prepare_seconds, 3),
        "memory_mib": memory.to_json(),
        **queries,
    }


def _require_like_steps(recipe: Recipe) -> None:
    if recipe.baseline is not None:
        raise RecipeError(f"baseline.kind: {recipe.baseline.kind} has no training steps, whose cost is measured")
    if (recipe.training.processes or 1) > 1:
        raise RecipeError(
            f"training.processes: costs are measured in one process, and a step of {recipe.training.processes} is "
            f"another one; set it to 1, and training.batch_users to what all of them take together"
        )
    interval = recipe.training.encoder_interval
    if interval > 1:
        # The median would be that of steps of the head alone, and thirty steps may not meet the language model once.
        raise RecipeError(
            f"training.encoder_interval: with {interval} the language model is trained in one step of about "
            f"{interval}, so that no step stands for the others; costs are measured with training.encoder_interval=1"
        )


def _with_cache(recipe: Recipe, folder: str) -> Recipe:
    cache = dataclasses.replace(recipe.encoder.cache, folder=folder)
    return dataclasses.replace(recipe, encoder=dataclasses.replace(recipe.encoder, cache=cache))
