"""Seconds that steps of whole recipes take, on the batches of their training, against the usual step of one of them.

What a run on a busy machine reached after how many steps is so told in seconds of an idle one.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peftrec.benchmark.speed.alternation import alternate
from peftrec.benchmark.speed.padded import PaddedTraining, best_users
from peftrec.benchmark.speed.path_comparison import OwnSteps
from peftrec.benchmark.speed.step_trainer import StepTrainer
from peftrec.config import InputError
from peftrec.data import Dataset, TrainingWindows
from peftrec.frozen import fill_cache
from peftrec.recipe import Recipe

CONVENTIONAL = "conventional"


def measure_steps(
    recipes: Mapping[str, Recipe],
    dataset: Dataset,
    *,
    reference: str,
    rounds: int,
    sizes: Sequence[int],
    sample_users: int,
    gemm_size: int = 2048,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Time whole training steps of recipes, and the usual step of one of them, in turns on the same batches.

    The usual step runs every padded position of every user through the language model, in micro-batches of the best
    size; the data set is whole, so that tables of ids are as large as in training.

    Args:
        recipes: by name; all draw the same batches. Frozen warm-up is left out: its steps are those of a recipe that
            trains no language model.
        dataset: of all.
        reference: name of the recipe, of `method.kind: full`, that the usual step belongs to.
        rounds: how often each is timed.
        sizes: users of a micro-batch that are tried, ascending.
        sample_users: the usual step runs micro-batches of so many users alone, which have the shapes of all others, and
            their time is counted for all.
        gemm_size: see `alternate`.
        say: is handed lines for people.
    Returns:
        `seconds` by name, that of the usual step under `conventional`; `windows`, `batch_users` and `steps_per_epoch`;
        `items` of the batches, and padded `rows` of a whole one; `micro_batch_users`; `machine`.
    Raises:
        InputError: if recipes draw other batches than the reference.
    """
    first = recipes[reference]
    users = first.training.users_a_batch
    for name, recipe in recipes.items():
        if _batches(recipe) != _batches(first):
            raise InputError(f"{name}: batch_users, max_history, seed or loss differ from those of {reference}")
    windows = TrainingWindows(dataset, first.user.max_history, skip_repeats=first.loss.skip_repeats)
    batches = list(itertools.islice(windows.epoch(first.training.seed, 1, users), rounds))
    own = {}
    for name, recipe in recipes.items():
        say(f"making {name}")
        own[name] = OwnSteps(StepTrainer(recipe, dataset), batches)
    padded = PaddedTraining("full", first, dataset, own[reference].trainer.model)
    say("best micro-batch of the usual step:")
    micro_users, tried = best_users(padded, batches[0], sizes, say)
    at_most = max(1, sample_users // micro_users)

    def conventional(number: int) -> float:
        return padded.timed_step(batches[number % len(batches)], micro_users, at_most=at_most)

    runners: dict[str, Callable[[int], float]] = {**own, CONVENTIONAL: conventional}
    # Searching has warmed the usual step.
    warm: dict[str, Callable[[int], float]] = {
        **{name: one.warm_up for name, one in own.items()},
        CONVENTIONAL: lambda _: 0.0,
    }
    turns = alternate(runners, rounds, warm_up=warm, gemm_size=gemm_size, say=say)
    return {
        "seconds": {name: seconds.plain() for name, seconds in turns.seconds.items()},
        "windows": windows.num_windows,
        "batch_users": users,
        "steps_per_epoch": windows.num_batches(users),
        "items": [len(own[reference].trainer.tokens(batch)) for batch in batches],
        "rows": len(batches[0]) * padded.width,
        "padded_tokens": len(batches[0]) * padded.width * first.encoder.max_tokens,
        "micro_batch_users": micro_users,
        "seconds_a_row": tried,
        "machine": turns.plain(),
    }


def measure_caching(recipes: Mapping[str, Recipe], folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Time what recipes compute once, before their first step: tokens, vectors of the backbone, states of its trunk.

    Args:
        recipes: by name; the first is to need no more than all others do, whose figures add to its own.
        folder: for the cache; it holds all of it afterwards.
        say: is handed lines for people.
    Returns:
        `seconds` and `mib` by name, each as if its recipe came first.
    Raises:
        InputError: if the folder is there: what it holds would not be computed.
    """
    if folder.exists():
        raise InputError(f"{folder}: is there already, so what it holds would not be timed; name a new folder")
    seconds, mib = dict[str, float](), dict[str, float]()
    shared_seconds = shared_mib = 0.0
    for name, recipe in recipes.items():
        cache = dataclasses.replace(recipe.encoder.cache, folder=str(folder))
        recipe = dataclasses.replace(recipe, encoder=dataclasses.replace(recipe.encoder, cache=cache))
        before, began = _mib(folder), time.perf_counter()
        fill_cache(recipe, lambda _: None)
        seconds[name] = shared_seconds + time.perf_counter() - began
        mib[name] = shared_mib + _mib(folder) - before
        say(f"caching for {name}: {seconds[name]:.1f} s, {mib[name]:.1f} MiB")
        if len(seconds) == 1:
            shared_seconds, shared_mib = seconds[name], mib[name]
    return {"seconds": seconds, "mib": mib}


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.bin")) / 2**20


def _batches(recipe: Recipe) -> tuple[object, ...]:
    training = recipe.training
    return training.users_a_batch, training.accumulation_steps, training.seed, recipe.user.max_history, recipe.loss
