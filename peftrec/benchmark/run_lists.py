"""What a trained run shows the users of the test cases, beside how it ranks their targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.build import tell_users
from peftrec.data import Dataset
from peftrec.evaluation import Evaluation, evaluate_cases
from peftrec.publishing import load_run
from peftrec.retrieval import top_items


def evaluated_lists(folder: Path, dataset: Dataset, k: int) -> tuple[Evaluation, NDArray[np.int64]]:
    """Return the evaluation of a run on the test cases and the list of each case, the user's history left out.

    Args:
        folder: of the run.
        dataset: that it was trained on, with its split.
        k: cutoff of the metrics, and length of the lists.
    Returns:
        The evaluation of C cases, and items in order, -1 for places without one, shape (C, K).
    """
    run, lists = load_run(folder), []
    for model in run.models:
        tell_users(model, dataset)

    def scores(histories: Any, *known: Any) -> torch.Tensor:
        found = run.scores(histories, *known)
        lists.append(top_items(found.cpu(), k, exclude_BL=torch.from_numpy(histories))[0].numpy())
        return found

    evaluation = evaluate_cases(
        scores, dataset.split.test, dataset.sequences, len(dataset.catalogue), ks=(k,), of_users=True
    )
    return evaluation, np.concatenate(lists)
