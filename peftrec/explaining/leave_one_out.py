"""What each event of a history does for scores: the scores of the history without it.

Shapes: L events of one history, M events that are read, R histories at once, K items, N items of the catalogue, D width
of vectors.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation import ProductScores, UserScores, users_at_once
from peftrec.models import CatalogueScores
from peftrec.retrieval import Asked

_AT_ONCE: Final = 512


@dataclasses.dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Scores of items for one history, and what becomes of them without each event.

    Args:
        scores_K: float64.
        changes_LK: score less the score without the event, float64; exactly 0 for events that are not read.
    """

    scores_K: NDArray[np.float64]
    changes_LK: NDArray[np.float64]


@torch.no_grad()
def leave_one_out(
    scores: UserScores | ProductScores, asked: Asked, items_K: NDArray[np.int64], num_items: int
) -> LeaveOneOut:
    """Score items for the history, and for the history without each of its events, all at once.

    change(l) = score(history) - score(history without event l), with the function that makes the lists. Without an
    event all older ones are one place newer, and where histories are cut to the newest M, the next older event comes
    into view: what a user would be who had never had it. Without its only event a history is empty.

    Args:
        scores: what scores the catalogue.
        asked: one user.
        items_K: the items, any number of them, repeats allowed.
        num_items: N.
    Raises:
        InputError: if a score is NaN or infinite.
    """
    assert len(asked.histories_BL) == 1, "explanations are of one user"
    history, users_B, events, times = asked.given(np.zeros(1, dtype=np.int64))
    places_L = np.flatnonzero(history[0] >= 0)
    length = len(places_L)
    reads = scores.max_history if isinstance(scores, ProductScores | CatalogueScores) else length
    # One event more than is read: it comes into view where a newer one is left out.
    kept = places_L[-(reads + 1) :]
    first = 1 if len(kept) > reads else 0
    without = [np.delete(kept, event) for event in range(first, len(kept))]
    rows = [kept[first:], *without]
    width = max(1, len(rows[0]))
    places_RM = np.full((len(rows), width), -1, dtype=np.int64)
    for row, places in zip(places_RM, rows, strict=True):
        if len(places):
            row[width - len(places) :] = places
    of_user_R = None if users_B is None else np.repeat(users_B, len(rows))
    told = (_taken(history, places_RM), of_user_R, _taken(events, places_RM), _taken(times, places_RM))
    # Whole rows of what is no product: what it says of one item may depend on all others.
    at_once = _AT_ONCE if isinstance(scores, ProductScores) else users_at_once(_AT_ONCE, num_items)
    parts = [slice(start, start + at_once) for start in range(0, len(rows), at_once)]
    found_RK = np.concatenate(
        [_score(scores, [None if one is None else one[part] for one in told], items_K) for part in parts]
    )
    if not np.isfinite(found_RK).all():
        raise InputError("a score is NaN or infinite: it cannot be explained")
    changes_LK = np.zeros((length, len(items_K)))
    changes_LK[length - len(without) :] = found_RK[0] - found_RK[1:]
    return LeaveOneOut(found_RK[0], changes_LK)


def _score(scores: UserScores | ProductScores, told: list[Any], items_K: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the scores of the items for the histories of `told`, shape (R, K)."""
    if isinstance(scores, ProductScores):
        items = torch.from_numpy(items_K).to(scores.vectors_ND.device)
        found_RK = torch.addmm(scores.bias_N[items], scores.user_vectors(*told), scores.vectors_ND[items].T)
    else:
        found_RN = scores(*told)
        found_RK = found_RN[:, torch.from_numpy(items_K).to(found_RN.device)]
    found: NDArray[np.float64] = found_RK.double().cpu().numpy()
    return found


def _taken(row: NDArray[np.int64] | None, places_RM: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return what stands at places of a row (1, L), -1 at no place."""
    return None if row is None else np.where(places_RM >= 0, row[0][places_RM], -1)
