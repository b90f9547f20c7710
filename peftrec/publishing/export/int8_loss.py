"""What graphs in 8 bits cost: NDCG on the test cases of a run, before and after."""

from __future__ import annotations

import dataclasses
from typing import Any

from peftrec.config import InputError
from peftrec.data import Dataset
from peftrec.evaluation import ProductScores, evaluate_cases, paired_test
from peftrec.publishing.run_data import load_run_data
from peftrec.publishing.run_folder import Run

_K = 10


def read_data(run: Run, root: str | None) -> Dataset:
    """Read the data of a run.

    Args:
        run: whose recipe says how.
        root: folder of the data; None takes that of the recipe.
    Raises:
        InputError: if the data cannot be read, or are not those of the run.
    """
    data = run.recipe.data if root is None else dataclasses.replace(run.recipe.data, root=root)
    try:
        dataset = load_run_data(run.folder, data)
    except (InputError, OSError) as error:
        raise InputError(
            f"--int8 measures what it costs on the data of the run, which cannot be read: {error}; name their folder "
            f"with --data"
        ) from None
    if dataset.catalogue.ids != run.catalogue.ids:
        raise InputError(
            f"--int8 measures what it costs on the data of the run, but those in {data.root} have other items"
        )
    return dataset


def measure_loss(run: Run, dataset: Dataset, full: ProductScores, rounded: ProductScores) -> dict[str, Any]:
    """Rank the test cases of a run twice.

    Args:
        run: whose rules of evaluation are used.
        dataset: its data.
        full: scores by graphs in float32.
        rounded: by those in 8 bits.
    Returns:
        Plain values: NDCG@10 of both, and the mean difference over users with its interval.
    """
    before, after = (
        evaluate_cases(
            scores,
            dataset.split.test,
            dataset.sequences,
            len(dataset.catalogue),
            ks=(_K,),
            exclude_history=run.recipe.evaluation.exclude_history,
            batch_users=run.recipe.evaluation.batch_users,
            names=("ndcg",),
        )
        for scores in (full, rounded)
    )
    test = paired_test(after, before, f"ndcg@{_K}")
    return {
        "split": "test",
        "num_users": test.num_users,
        "metric": test.metric,
        "float32": test.second,
        "int8": test.first,
        "difference": test.difference,
        "interval": [test.low, test.high],
    }
