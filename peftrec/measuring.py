"""Measuring scores on the validation and test cases of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftrec.baselines import FittedBaseline
from peftrec.data import Dataset
from peftrec.evaluation import Evaluation, ProductScores, UserScores, evaluate_cases
from peftrec.losses import ItemPropensities
from peftrec.metrics import DEFAULT_RANK_METRICS
from peftrec.propensity import propensities_of
from peftrec.publishing import write_per_user
from peftrec.recipe import Recipe

SPLITS = ("valid", "test")


def of_users(baselines: Mapping[str, FittedBaseline]) -> dict[str, UserScores | ProductScores]:
    """Return the scores of baselines, which look at histories alone."""
    return {
        kind: own if isinstance(own, ProductScores) else lambda histories, *_, own=own: own.scores(histories)
        for kind, own in baselines.items()
    }


def measure(scores: UserScores | ProductScores, recipe: Recipe, dataset: Dataset, split: str) -> Evaluation:
    """Rank the targets of a split as the recipe says."""
    return evaluate_cases(
        scores,
        getattr(dataset.split, split),
        dataset.sequences,
        len(dataset.catalogue),
        ks=recipe.evaluation.ks,
        exclude_history=recipe.evaluation.exclude_history,
        batch_users=recipe.evaluation.batch_users,
        of_users=True,
        names=_names(recipe.training.metric),
    )


def _names(metric: str) -> tuple[str, ...]:
    """Return the metrics that are measured in any case, and that of `training.metric`."""
    return tuple(dict.fromkeys((*DEFAULT_RANK_METRICS, metric.partition("@")[0])))


def measure_all(
    scores: Mapping[str, UserScores | ProductScores], recipe: Recipe, dataset: Dataset, work: Path
) -> dict[str, Any]:
    """Measure each on both splits, write what single users got, and return the means as plain values."""
    results: dict[str, Any] = {
        "data_sha256": dataset.content_hash(times=recipe.reads_times),
        "cleaning": dataset.report.to_dict(),
    }
    propensities = case_propensities(recipe, dataset)
    for split in SPLITS:
        found = {name: measure(score, recipe, dataset, split) for name, score in scores.items()}
        write_users(work, split, dataset, found)
        results[split] = results_of(found, dataset, split, propensities)
    return results


def case_propensities(recipe: Recipe, dataset: Dataset) -> ItemPropensities | None:
    """Return what metrics are estimated by beside their means, or None where the recipe does not ask for it."""
    return propensities_of(recipe.evaluation.propensity, recipe, dataset, "evaluation.propensity")


def results_of(
    found: Mapping[str, Evaluation], dataset: Dataset, split: str, propensities: ItemPropensities | None = None
) -> dict[str, Any]:
    """Return means and intervals as plain values, and estimates by propensities where there are any."""
    rows = {name: evaluation.to_json(propensities=propensities) for name, evaluation in found.items()}
    return {"split": split, "leaks": dataset.split.leaks, **rows}


def write_users(folder: Path, split: str, dataset: Dataset, found: Mapping[str, Evaluation]) -> None:
    """Write what single users got into the private part of a run folder."""
    for name, evaluation in found.items():
        write_per_user(folder, split, name, evaluation, dataset.sequences.user_ids, dataset.catalogue.ids)
