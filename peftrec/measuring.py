"""Measuring scores on the validation and test cases of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftrec.baselines import FittedBaseline
from peftrec.data import Dataset
from peftrec.evaluation import Evaluation, ProductScores, UserScores, evaluate_cases, evaluate_sampled
from peftrec.losses import ItemPropensities
from peftrec.propensity import propensities_of
from peftrec.publishing import SAMPLED, write_per_user
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
        names=tuple(dict.fromkeys((*recipe.evaluation.metrics, recipe.training.metric.partition("@")[0]))),
    )


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
        sampled = sampled_evaluations(scores, recipe, dataset, split)
        write_users(work, split, dataset, found, sampled)
        results[split] = results_of(found, dataset, split, sampled, propensities)
    return results


def sampled_evaluations(
    scores: Mapping[str, UserScores | ProductScores], recipe: Recipe, dataset: Dataset, split: str
) -> dict[str, Evaluation]:
    """Rank among sampled candidates too where the recipe asks for it; otherwise there is nothing."""
    sampled = recipe.evaluation.sampled_candidates
    if sampled is None:
        return {}
    return {
        name: evaluate_sampled(
            score,
            getattr(dataset.split, split),
            dataset.sequences,
            dataset.item_counts(),
            sampled,
            ks=recipe.evaluation.ks,
            batch_users=recipe.evaluation.batch_users,
            of_users=True,
        )
        for name, score in scores.items()
    }


def case_propensities(recipe: Recipe, dataset: Dataset) -> ItemPropensities | None:
    """Return what metrics are estimated by beside their means, or None where the recipe does not ask for it."""
    return propensities_of(recipe.evaluation.propensity, recipe, dataset, "evaluation.propensity")


def results_of(
    found: Mapping[str, Evaluation],
    dataset: Dataset,
    split: str,
    sampled: Mapping[str, Evaluation] | None = None,
    propensities: ItemPropensities | None = None,
) -> dict[str, Any]:
    """Return means and intervals as plain values, and estimates by propensities where there are any.

    Those among sampled candidates stand apart, under `sampled`.
    """
    rows = {name: evaluation.to_json(propensities=propensities) for name, evaluation in found.items()}
    apart = {SAMPLED: {name: evaluation.to_json() for name, evaluation in sampled.items()}} if sampled else {}
    return {"split": split, "leaks": dataset.split.leaks, **rows, **apart}


def write_users(
    folder: Path,
    split: str,
    dataset: Dataset,
    found: Mapping[str, Evaluation],
    sampled: Mapping[str, Evaluation] | None = None,
) -> None:
    """Write what single users got into the private part of a run folder."""
    named = {**found, **{f"{SAMPLED}_{name}": evaluation for name, evaluation in (sampled or {}).items()}}
    for name, evaluation in named.items():
        write_per_user(folder, split, name, evaluation, dataset.sequences.user_ids, dataset.catalogue.ids)
