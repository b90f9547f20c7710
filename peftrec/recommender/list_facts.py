"""What re-ranking and rules ask of the items of a moment.

Shapes: M items asked about, D width of vectors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError, nearest
from peftrec.recommender.stock_view import StockView
from peftrec.retrieval.reranking import FieldFacts, Reranking


def facts_of(view: StockView) -> FieldFacts:
    """Return the facts of the rows of a view, as of now."""
    index = view.index

    def vectors(rows: NDArray[np.int64]) -> NDArray[np.floating]:
        assert index is not None
        found: NDArray[np.floating] = index.vectors_ND[torch.from_numpy(rows)].cpu().numpy()
        return found

    return FieldFacts(
        view.fields.names,
        lambda name, row: view.fields.column(name).value(row),
        None if index is None else vectors,
        lambda rows: np.array([view.added[row] for row in rows.tolist()], dtype=np.float64),
        time.time(),
    )


def check_steps(reranking: Reranking, fields: Sequence[str], *, has_vectors: bool) -> None:
    """Refuse steps that this catalogue cannot be asked for, before the first list.

    Args:
        reranking: the steps.
        fields: that items have.
        has_vectors: whether items have vectors.
    Raises:
        InputError: naming the step and the field.
    """
    for place, step in enumerate(reranking.steps):
        where = f"reranking.steps[{place}]"
        field = getattr(step, "field", None)
        if field is not None and field not in fields:
            there = f"there are {', '.join(fields)}" if fields else "none are kept (data.item_fields)"
            raise InputError(f"{where}.field: items have no field '{field}'.{nearest(field, fields)} Of them {there}")
        if step.kind == "mmr" and field is None and not has_vectors:
            raise InputError(f"{where}: this run has no vectors of items; name a field, as in field: category")
