"""Candidates of several sources made into one list.

Shapes: K length of a list; lists may differ in length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from peftrec.retrieval.fusion import RANK_OFFSET, By


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An item that may come into a list.

    Args:
        row: of the index.
        score: higher is better.
        source: who brought it: of several the one whose say was the largest.
    """

    row: int
    score: float
    source: str


def fuse(
    lists: Mapping[str, tuple[Sequence[int], Sequence[float]]], weights: Mapping[str, float], by: By, k: int
) -> list[Candidate]:
    """Make one list of those of several sources.

    fused(item) = sum over the sources whose list has the item of weight * part / sum of weights. A part is 1 / (60 +
    rank) by `rank`; by `score` it is how far the item's score lies above the lowest of the list, in standard deviations
    of the list's scores (equal scores: 1). Of equal sums the item that an earlier source has higher is first.

    Args:
        lists: of each source rows and scores, best first.
        weights: of each source, above 0.
        by: `rank` or `score`.
        k: length of the list.
    Source:
        As `reciprocal_ranks` and `standardised` of `peftrec.retrieval.fusion`, over lists of candidates in place of
        catalogues.
    """
    total = sum(weights[name] for name in lists)
    sums: dict[int, float] = {}
    said: dict[int, tuple[float, str]] = {}
    for name, (rows, scores) in lists.items():
        for row, part in zip(rows, _parts(scores, by), strict=True):
            share = part * weights[name] / total
            sums[row] = sums.get(row, 0.0) + share
            if row not in said or share > said[row][0]:
                said[row] = (share, name)
    best = sorted(sums.items(), key=lambda pair: -pair[1])[:k]
    return [Candidate(row, score, said[row][1]) for row, score in best]


def _parts(scores: Sequence[float], by: By) -> list[float]:
    if by == "rank":
        return [1.0 / (RANK_OFFSET + rank) for rank in range(1, len(scores) + 1)]
    values = np.asarray(scores, dtype=np.float64)
    deviation = float(values.std()) if len(values) else 0.0
    if deviation <= 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0))):
        return [1.0] * len(values)
    parts: list[float] = ((values - values.min()) / deviation).tolist()
    return parts
