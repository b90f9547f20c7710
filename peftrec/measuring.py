"""Measuring scores on the validation and test cases of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftrec.baselines import FittedBaseline
from peftrec.config import InputError
from peftrec.data import Dataset
from peftrec.data.group_table import Groups, read_groups
from peftrec.data.impression import Impressions, read_impressions
from peftrec.evaluation import Evaluation, ProductScores, UserScores, evaluate_cases, evaluate_sampled
from peftrec.launch import Ranks, all_or_none
from peftrec.losses import ItemPropensities
from peftrec.propensity import propensities_of
from peftrec.publishing import SAMPLED, write_per_user
from peftrec.recipe import Recipe

SPLITS = ("valid", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Details:
    """What a full evaluation reads beside the data that models learn from.

    Args:
        item_groups: of the items, by column of `data.item_groups` and of `evaluation.category`.
        user_groups: of the users, by column of `data.user_groups`.
        impressions: of `evaluation.impressions`; None where it names none.
    """

    item_groups: Mapping[str, Groups]
    user_groups: Mapping[str, Groups]
    impressions: Impressions | None


def read_details(recipe: Recipe, dataset: Dataset, split: str) -> Details:
    """Read what the rules of evaluation name.

    Raises:
        InputError: if a column or file is not there or is malformed, or a model reads what impressions do not tell.
    """
    rules = recipe.evaluation
    more = () if rules.category is None else (rules.category,)
    item_groups, user_groups = read_groups(recipe.data, dataset, more_columns=more, more_key="evaluation.category")
    if rules.impressions is None:
        return Details(item_groups, user_groups, None)
    key = "evaluation.impressions"
    if recipe.reads_times:
        raise InputError(f"{key}: an impression does not tell the times of its history, which this model reads")
    if dataset.sequences.events is not None:
        raise InputError(f"{key}: an impression does not tell the kinds of events, which this model reads")
    if recipe.data.sessions is not None:
        raise InputError(f"{key}: impressions are of users, but data.sessions cuts users into sessions")
    impressions = read_impressions(Path(recipe.data.root) / rules.impressions, dataset, split)
    return Details(item_groups, user_groups, impressions)


def check_rules(recipe: Recipe, dataset: Dataset) -> None:
    """See that evaluating will work, before the long part of a training.

    Raises:
        InputError: what propensities, columns or impressions would raise.
    """
    case_propensities(recipe, dataset)
    for split in SPLITS if recipe.evaluation.impressions is not None else SPLITS[:1]:
        read_details(recipe, dataset, split)


def of_users(baselines: Mapping[str, FittedBaseline]) -> dict[str, UserScores | ProductScores]:
    """Return the scores of baselines, which look at histories alone."""
    return {
        kind: own if isinstance(own, ProductScores) else lambda histories, *_, own=own: own.scores(histories)
        for kind, own in baselines.items()
    }


def measure(
    scores: UserScores | ProductScores, recipe: Recipe, dataset: Dataset, split: str, ranks: Ranks | None = None
) -> Evaluation:
    """Rank the targets of a split as the recipe says.

    Args:
        scores: of the catalogue.
        recipe: with its rules of evaluation.
        dataset: split.
        split: `valid` or `test`.
        ranks: processes that share the cases, called alike on each; None for this one alone.
    Returns:
        What was found for all cases, on every process.
    Raises:
        InputError: as of `evaluate_cases`.
    """
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
        processes=ranks,
    )


def measure_all(
    scores: Mapping[str, UserScores | ProductScores],
    recipe: Recipe,
    dataset: Dataset,
    work: Path,
    ranks: Ranks | None = None,
) -> dict[str, Any]:
    """Measure each on both splits, write what single users got, and return the means as plain values.

    Args:
        scores: by name.
        recipe: and `dataset`, `ranks`: as of `measure`.
        work: the run folder, into which the first process writes.
    Raises:
        InputError: as of `measure`.
    """
    ranks = Ranks() if ranks is None else ranks
    results: dict[str, Any] = {
        "data_sha256": dataset.content_hash(times=recipe.reads_times),
        "cleaning": dataset.report.to_dict(),
    }
    propensities = case_propensities(recipe, dataset)
    for split in SPLITS:
        found = {name: measure(score, recipe, dataset, split, ranks) for name, score in scores.items()}
        sampled = sampled_evaluations(scores, recipe, dataset, split, ranks)
        with all_or_none(ranks):
            if ranks.is_first:
                write_users(work, split, dataset, found, sampled)
        results[split] = results_of(found, dataset, split, sampled, propensities)
    return results


def sampled_evaluations(
    scores: Mapping[str, UserScores | ProductScores],
    recipe: Recipe,
    dataset: Dataset,
    split: str,
    ranks: Ranks | None = None,
) -> dict[str, Evaluation]:
    """Rank among sampled candidates too where the recipe asks for it; otherwise there is nothing.

    Args:
        scores: by name.
        recipe: and `dataset`, `split`, `ranks`: as of `measure`.
    Raises:
        InputError: as of `evaluate_sampled`.
    """
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
            names=recipe.evaluation.metrics,
            processes=ranks,
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
