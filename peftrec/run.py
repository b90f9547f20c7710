"""`train(recipe)`: data, build, training, evaluation, publishing, in order."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from peftrec.baselines import fit_references, store_references
from peftrec.build import build
from peftrec.config import InputError, RecipeError
from peftrec.data import Dataset, load_dataset
from peftrec.evaluating import REFERENCE_FOLDER
from peftrec.fitting import make_trainer
from peftrec.frozen import frozen_vectors, published_vectors
from peftrec.launch import Ranks, all_or_none, launched
from peftrec.measuring import check_rules, measure_all, of_users
from peftrec.models import RecommenderModel, catalogue_scores
from peftrec.publishing import (
    PRIVATE,
    check_output_folder,
    save_baseline_run,
    save_model_run,
)
from peftrec.recipe import Recipe
from peftrec.training import (
    CHECKPOINTS,
    final_table,
    peak_memory_mib,
    recover_folder,
    replace_folder,
    running,
)

Report = Callable[[str], None]


def train(
    recipe: Recipe,
    *,
    overwrite: bool = False,
    resume: bool = False,
    dataset: Dataset | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Run a recipe from tables to a run folder.

    Under `accelerate launch` several processes train together, each with its share of the users; the first one writes.

    Work goes into `<output_dir>.partial`, which takes the place of `output_dir` only when everything is written and
    proven; after a kill it holds the checkpoint that `resume` goes on from.

    Args:
        recipe: resolved.
        overwrite: replace a run that `output_dir` already holds.
        resume: go on from the checkpoint of a run that was stopped.
        dataset: use this instead of loading what the recipe names.
        report: is handed one line at a time on what goes on, in the first process; None is silent.
    Returns:
        What `metrics.json` holds.
    Raises:
        RecipeError: if the output folder is taken.
        InputError: if data, backbone, method or a loss value is wrong, or another number of processes was launched than
            the recipe is made for; see `Trainer.train` for what else stops a training.
        TrainingStopped: after SIGTERM; `resume` goes on.
    """
    ranks = launched(recipe.training.timeout_seconds)
    say = report if report is not None and ranks.is_first else lambda _: None
    _check_processes(recipe, ranks)
    folder = Path(recipe.output_dir)
    with all_or_none(ranks):
        if ranks.is_first:
            _check_folders(folder, say, overwrite=overwrite, resume=resume)
    work = _work(folder)
    with all_or_none(ranks):
        dataset = load_dataset(recipe.data) if dataset is None else dataset
        check_rules(recipe, dataset)  # what is wrong with them is told before the long part
    say(str(dataset.report))
    if dataset.split.leaks:
        say(dataset.split.leaks)
    with contextlib.ExitStack() as lock:
        if recipe.baseline is not None:
            metrics = _fit_baseline(recipe, dataset, work, say, lock)
        else:
            metrics = _train_model(recipe, dataset, work, say, ranks, lock, resume=resume)
    if ranks.is_first:
        replace_folder(work, folder)
        say(f"saved to {folder}")
    return metrics


def _check_processes(recipe: Recipe, ranks: Ranks) -> None:
    """See that as many processes were launched as the recipe is made for."""
    wanted = 1 if recipe.baseline is not None else recipe.training.processes
    if wanted is None or ranks.count == wanted:
        return
    if recipe.baseline is not None:
        raise InputError(f"{ranks.count} processes were launched, but a baseline is fitted in one; launch one")
    raise InputError(
        f"training.processes is {wanted}, but {ranks.count} were launched. Launch as many (recipes/accelerate/ has "
        f"files for accelerate launch --config_file; --num_processes beside --cpu starts one whatever it says), or set "
        f"training.processes={ranks.count}: then a step has {ranks.count} times training.batch_users"
    )


def _work(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def _check_folders(folder: Path, say: Report, *, overwrite: bool, resume: bool) -> None:
    """See that a run may be written, before anything is done."""
    if recover_folder(folder):
        say(f"{folder}: put back the run that a stopped replacement had left aside")
    check_output_folder(folder, overwrite=overwrite)
    work = _work(folder)
    if resume and not work.is_dir():
        raise RecipeError(f"{work}: there is no stopped run to resume")
    if not resume and not overwrite and (work / CHECKPOINTS).is_dir():
        raise RecipeError(f"{work} holds a stopped run; pass --resume to go on, or --overwrite to start again")


def _train_model(
    recipe: Recipe,
    dataset: Dataset,
    work: Path,
    say: Report,
    ranks: Ranks,
    lock: contextlib.ExitStack,
    *,
    resume: bool,
) -> dict[str, Any]:
    began = time.perf_counter()
    with all_or_none(ranks):
        built = build(recipe, dataset, say)
    model, counts = built.model, dataset.item_counts()
    for line in built.describe(recipe):
        say(line)
    build_seconds = time.perf_counter() - began
    # Before the long part: they may need a backbone that cannot be loaded.
    with all_or_none(ranks):
        references = fit_references(dataset, lambda: published_vectors(built, recipe, say))
    with all_or_none(ranks):
        if ranks.is_first:
            lock.enter_context(running(work, clear=not resume))
    # What deals weights out waits for the other processes itself.
    with all_or_none(ranks) if not recipe.training.shard_backbone else contextlib.nullcontext():
        recipe, trainer = make_trainer(built, recipe, dataset, say, work, ranks=ranks)
        untrained = _adapter_states(model)
    result = trainer.train(resume=resume)
    for start, encoder in model.text_encoders().items():
        for name, value in encoder.method.summary().items():
            say(f"{start.replace('_', ' ')}, {name}: {json.dumps(value)}")
    metrics = {
        "training": dataclasses.asdict(result) | {"build_seconds": build_seconds, "processes": ranks.count},
        "parameters": [{"part": part, **dataclasses.asdict(count)} for part, count in model.parameter_counts().items()],
        "texts": built.text_counts(),
        "methods": {start: encoder.method.summary() for start, encoder in model.text_encoders().items()},
    } | measure_all({"model": catalogue_scores(model), **of_users(references)}, recipe, dataset, work, ranks)
    trainer.close(final_table(metrics))
    if not ranks.is_first:
        return metrics
    # From here on the first process is alone.
    if recipe.training.shard_backbone:
        model = _whole(model, recipe, dataset)
    store_references(references, work / PRIVATE / REFERENCE_FOLDER)
    trained = _adapter_states(model)
    moved = {
        start: any(not torch.equal(tensor, untrained[start][name]) for name, tensor in tensors.items())
        for start, tensors in trained.items()
    }
    save_model_run(
        work,
        recipe=recipe,
        catalogue=dataset.catalogue,
        train_counts=counts,
        model=model,
        metrics=metrics,
        adapters_moved=moved,
    )
    return metrics


def _whole(sharded: RecommenderModel, recipe: Recipe, dataset: Dataset) -> RecommenderModel:
    """Return the trained model with all weights of its language model, for one process alone."""
    model = build(recipe, dataset).model
    model.load_trained_state(sharded.trained_state())
    assert model.catalogue_text is not None, "what is sharded reads texts"
    assert sharded.catalogue_text is not None, "what is sharded reads texts"
    model.catalogue_text.take_vectors(sharded.catalogue_text)
    return model


def _fit_baseline(
    recipe: Recipe, dataset: Dataset, work: Path, say: Report, lock: contextlib.ExitStack
) -> dict[str, Any]:
    assert recipe.baseline is not None
    began = time.perf_counter()
    vectors = functools.cache(lambda: frozen_vectors(recipe, dataset.catalogue.texts, say))
    fitted = recipe.baseline.fit(dataset, vectors() if recipe.baseline.needs_item_vectors else None)
    seconds = time.perf_counter() - began
    say(f"{recipe.baseline.kind} fitted in {seconds:.1f} s")
    references = fit_references(dataset, vectors)
    lock.enter_context(running(work, clear=True))
    store_references(references, work / PRIVATE / REFERENCE_FOLDER)
    scores = of_users({"model": fitted, **references})
    metrics: dict[str, Any] = {
        "training": {"train_seconds": seconds, "peak_memory_mib": peak_memory_mib()},
        "parameters": [],
    } | measure_all(scores, recipe, dataset, work)
    save_baseline_run(
        work,
        recipe=recipe,
        catalogue=dataset.catalogue,
        train_counts=dataset.item_counts(),
        baseline=fitted,
        metrics=metrics,
    )
    return metrics


def _adapter_states(model: RecommenderModel) -> dict[str, dict[str, torch.Tensor]]:
    return {
        start: {name: tensor.detach().clone() for name, tensor in encoder.method.state_dict().items()}
        for start, encoder in model.text_encoders().items()
    }
