"""`ensemble(runs, folder)`: several runs made into one, measured and stored like any run.

Shapes: B users, N items of the catalogue.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from peftrec.build import tell_users
from peftrec.config import InputError, RecipeError, section_to_dict
from peftrec.data import Cases, Dataset
from peftrec.evaluating import REFERENCE_FOLDER, evaluate
from peftrec.evaluation import evaluate_cases, users_at_once
from peftrec.publishing import (
    METRICS,
    PRIVATE,
    RECIPE,
    EnsembleRun,
    assemble,
    check_output_folder,
    read_items,
    read_manifest,
    save_ensemble_run,
)
from peftrec.publishing.run_data import UPDATES, load_run_data
from peftrec.recipe import Recipe, load_recipe, recipe_for_evaluation
from peftrec.retrieval import By, Fusion, weight_grid
from peftrec.training import CHECKPOINTS, peak_memory_mib, recover_folder, replace_folder

Weights = Sequence[float] | Literal["auto"] | None


@dataclasses.dataclass(frozen=True)
class _Source:
    """A run that shall be a member: its folder, recipe and metrics."""

    folder: Path
    recipe: Recipe
    metrics: dict[str, Any]


def ensemble(
    runs: Sequence[str | Path],
    output_dir: str | Path,
    *,
    by: By = "score",
    weights: Weights = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    dataset: Dataset | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Make one run of several that were trained on the same data and split; nothing is trained.

    Members are copied into the folder, so that it needs none of theirs. Data, rules of evaluation and references are
    those of the first member that reads texts, or of the first.

    Args:
        runs: run folders, two or more; baselines and ensembles may be among them.
        output_dir: the run folder of the ensemble.
        by: `score` (mean of standardised scores) or `rank` (reciprocal rank fusion); see `Fusion`.
        weights: one a run; None weighs all equally; `auto` takes those of a small grid that reach the best validation
            metric (`training.metric` of the recipe), the equal ones where several do.
        overrides: of the sections `data` and `evaluation`, such as `data.root=../elsewhere`.
        overwrite: replace a run that `output_dir` already holds.
        dataset: use this instead of loading what the recipe names.
        report: is handed one line at a time on what goes on; None is silent.
    Returns:
        What `metrics.json` holds; the members have a row beside the references.
    Raises:
        RecipeError: if the output folder is taken, or an override is of another section.
        InputError: if a run is missing, damaged, of other data or another split than the first, or weights are wrong.
    """
    say = report or (lambda _: None)
    folder = Path(output_dir)
    recover_folder(folder)
    check_output_folder(folder, overwrite=overwrite)
    work = folder.with_name(folder.name + ".partial")
    if not overwrite and (work / CHECKPOINTS).is_dir():
        raise RecipeError(f"{work} holds a stopped run; pass --overwrite to remove it")
    sources = _sources([Path(run) for run in runs], folder)
    if weights is not None and weights != "auto" and len(weights) != len(sources):
        raise InputError(f"{len(weights)} weights for {len(sources)} runs; there must be one of each")
    equal = (1 / len(sources),) * len(sources)
    fusion = Fusion(by, equal if weights is None or weights == "auto" else tuple(weights))
    base = _base(sources)
    recipe = recipe_for_evaluation(dataclasses.replace(base.recipe, output_dir=str(output_dir)), overrides)
    dataset = load_run_data(base.folder, recipe.data) if dataset is None else dataset
    for source in sources:
        if dataset.content_hash(times=source.recipe.reads_times) != source.metrics["data_sha256"]:
            differing = _differing(base, source)
            raise InputError(
                f"{recipe.data.root}: does not hold the data that {source.folder} was trained on; point data.root at "
                f"those{differing and f', or train with equal settings ({differing})'}"
            )
    shutil.rmtree(work, ignore_errors=True)
    (work / PRIVATE).mkdir(parents=True)
    try:
        run = assemble(
            [source.folder for source in sources],
            work,
            recipe=recipe,
            catalogue=dataset.catalogue,
            train_counts=dataset.item_counts(),
            fusion=fusion,
        )
        say(f"members: {', '.join(run.members)}")
        chosen = None
        if weights == "auto":
            run, chosen = _choose_weights(run, dataset, base.recipe.training.metric)
            say(f"weights that are best on validation: {', '.join(f'{weight:g}' for weight in run.fusion.weights)}")
        metrics = _measure(run, dataset, sources, base) | {"ensemble": _describe(run, chosen)}
        save_ensemble_run(run, metrics)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    replace_folder(work, folder)
    say(f"saved to {folder}")
    return metrics


def _sources(folders: Sequence[Path], output: Path) -> list[_Source]:
    """Read what must agree of the runs, and see that it does."""
    if len(folders) < 2:
        raise InputError(f"an ensemble has two members or more, got {len(folders)}")
    places = [folder.resolve() for folder in folders]
    for number, (folder, place) in enumerate(zip(folders, places, strict=True)):
        if place in places[:number]:
            raise InputError(f"{folder}: is named twice; give it a larger weight instead")
        if place == output.resolve():
            raise InputError(f"{folder}: is a member and where the ensemble shall lie; choose another output folder")
    sources = []
    for folder in folders:
        read_manifest(folder)
        try:
            metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
            assert isinstance(metrics["data_sha256"], str)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise InputError(f"{folder / METRICS}: cannot be read ({error})") from None
        sources.append(_Source(folder, load_recipe(folder / RECIPE), metrics))
    for other in sources[1:]:
        _check_same(sources[0], other)
    return sources


def _check_same(first: _Source, other: _Source) -> None:
    splits = [section_to_dict(source.recipe.data.split) for source in (first, other)]
    if splits[0] != splits[1]:
        raise InputError(
            f"{first.folder} and {other.folder} were split differently ({splits[0]} and {splits[1]}); targets "
            f"of one may be events that the other was trained on"
        )
    # Of a run that reads times, they are in the sum; the data set itself is compared with both.
    if first.recipe.reads_times != other.recipe.reads_times:
        return
    if first.metrics["data_sha256"] == other.metrics["data_sha256"]:
        return
    items = [read_items(source.folder) for source in (first, other)]
    what = "the same items, but other events, users or order"
    if _differing(first, other):
        what = f"the same items, but read with other settings ({_differing(first, other)}), which must be equal"
    if items[0].texts != items[1].texts:
        what = "the same items with other texts"
    if items[0].ids != items[1].ids:
        what = f"other items ({len(items[0]):,} and {len(items[1]):,})"
    raise InputError(f"{first.folder} and {other.folder} were trained on different data: {what}")


def _differing(first: _Source, other: _Source) -> str:
    """Name the settings of the data that two recipes differ in, but for where the data lie."""
    one, two = (section_to_dict(source.recipe.data) for source in (first, other))
    return ", ".join(f"data.{key}" for key in {**one, **two} if key != "root" and one.get(key) != two.get(key))


def _base(sources: Sequence[_Source]) -> _Source:
    """Return the member whose references stand beside the ensemble."""
    reads_text = (s for s in sources if s.recipe.baseline is None and s.recipe.encoder.uses_text)
    return next(reads_text, sources[0])


def _choose_weights(run: EnsembleRun, dataset: Dataset, metric: str) -> tuple[EnsembleRun, dict[str, Any]]:
    """Return the run with the weights of the grid that are best on validation, and what was tried.

    Members score every case once; the test cases are not looked at.
    """
    for model in run.models:
        tell_users(model, dataset)
    name, _, cutoff = metric.partition("@")
    cases, rules = dataset.split.valid, run.recipe.evaluation
    tried = [Fusion(run.fusion.by, weights) for weights in weight_grid(len(run.members))]
    # Every user counts alike, however many targets they have, as in `Evaluation`.
    _, row_C, targets_U = np.unique(cases.users, return_inverse=True, return_counts=True)
    share_C = 1 / targets_U[row_C]
    totals = np.zeros(len(tried))
    # All scores of a chunk are made at once, since members are asked once.
    at_once = users_at_once(rules.batch_users, len(dataset.catalogue))
    for start in range(0, len(cases), at_once):
        part = slice(start, start + at_once)
        chunk = Cases(cases.users[part], cases.history_lengths[part], cases.targets[part])
        parts = _Parts(run)
        for place, fusion in enumerate(tried):
            parts.fusion = fusion
            found = evaluate_cases(
                parts.scores,
                chunk,
                dataset.sequences,
                len(dataset.catalogue),
                ks=(int(cutoff),),
                exclude_history=rules.exclude_history,
                batch_users=len(chunk),
                of_users=True,
                names=(name,),
            )
            totals[place] += (found.per_user[f"{name}@{cutoff}"] * share_C[part]).sum()
    means = totals / len(targets_U)
    # Sums in other orders differ in their last digits, which decide nothing.
    best = int(np.flatnonzero(means >= means.max() - 1e-12)[0])
    rows = [{"weights": list(fusion.weights), metric: float(mean)} for fusion, mean in zip(tried, means, strict=True)]
    return dataclasses.replace(run, fusion=tried[best]), {"split": "valid", "metric": metric, "tried": rows}


class _Parts:
    """Scores one chunk of users again and again, each time with other weights; members are asked once."""

    def __init__(self, run: EnsembleRun) -> None:
        self.fusion = run.fusion
        self._run = run
        self._parts: list[torch.Tensor] | None = None

    def scores(self, *known: Any) -> torch.Tensor:
        """Return the scores for what `UserScores` are given, which must be the same each time."""
        if self._parts is None:
            self._parts = [self.fusion.part(member.scores(*known)) for member in self._run.members.values()]
        return self.fusion.combine(self._parts)


def _measure(run: EnsembleRun, dataset: Dataset, sources: Sequence[_Source], base: _Source) -> dict[str, Any]:
    """Evaluate the ensemble, its members and the references on both splits, as `evaluate` does."""
    stored = dict(zip(run.members, (source.metrics for source in sources), strict=True))
    metrics: dict[str, Any] = {
        "data_sha256": base.metrics["data_sha256"],
        # What the members took; putting them together trains nothing.
        "training": {
            "train_seconds": sum(member["training"]["train_seconds"] for member in stored.values()),
            "peak_memory_mib": peak_memory_mib(),
        },
        "parameters": [
            {**row, "part": f"{name} {row['part']}"} for name, member in stored.items() for row in member["parameters"]
        ],
    }
    if "update" in base.metrics:  # all members have the same later events, or they would not be members
        metrics["update"] = base.metrics["update"]
        shutil.copytree(base.folder / PRIVATE / UPDATES, run.folder / PRIVATE / UPDATES)
    # Evaluation reads them there, and references of the very same data and backbone.
    (run.folder / METRICS).write_text(json.dumps(metrics), encoding="utf-8")
    references = base.folder / PRIVATE / REFERENCE_FOLDER
    if references.is_dir():
        shutil.copytree(references, run.folder / PRIVATE / REFERENCE_FOLDER)
    for split in ("valid", "test"):
        found = evaluate(run, split=split, dataset=dataset)
        metrics[split] = {
            name: row for name, row in found.items() if name not in ("training", "parameters", "same_data")
        }
    return metrics


def _describe(run: EnsembleRun, chosen: dict[str, Any] | None) -> dict[str, Any]:
    weights = dict(zip(run.members, run.fusion.weights, strict=True))
    return {"by": run.fusion.by, "weights": weights, "chosen_on": chosen}
