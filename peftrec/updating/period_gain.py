"""What an update gains in the new period and loses in the old one, on the same cases and candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from peftrec.data import Cases, Dataset
from peftrec.evaluation import Evaluation, paired_test
from peftrec.measuring import measure
from peftrec.models import RecommenderModel, catalogue_scores
from peftrec.recipe import Recipe

NEW_PERIOD: Final = "new_period"
OLD_PERIOD: Final = "old_period"


def measure_periods(model: RecommenderModel, recipe: Recipe, dataset: Dataset, old: Cases) -> dict[str, Evaluation]:
    """Rank the test cases of both periods in the whole catalogue, new items too.

    Args:
        model: before or after the update.
        recipe: with the rules of evaluation.
        dataset: extended; its test cases are those of the new period.
        old: the test cases of the run that is updated.
    """
    earlier = dataclasses.replace(dataset, split=dataclasses.replace(dataset.split, test=old))
    scores = catalogue_scores(model)
    return {
        NEW_PERIOD: measure(scores, recipe, dataset, "test"),
        OLD_PERIOD: measure(scores, recipe, earlier, "test"),
    }


def compare_periods(before: Mapping[str, Evaluation], after: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Return means of both, and what the update has changed with 95 % intervals over users, as plain values.

    Args:
        before: from `measure_periods`, of the run.
        after: likewise, of the updated model.
    """
    return {period: _compared(before[period], after[period]) for period in (NEW_PERIOD, OLD_PERIOD)}


def _compared(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    changes = {}
    for metric in after.per_user:
        test = paired_test(after, before, metric)
        changes[metric] = {
            "before": test.second,
            "after": test.first,
            "change": test.difference,
            "interval": [test.low, test.high],
            "p_value": test.p_value,
        }
    return {"num_cases": len(after.users), "num_users": after.num_users, "level": 0.95, "changes": changes}
