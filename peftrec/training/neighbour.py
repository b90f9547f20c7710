"""Items of similar texts.

Shapes: N items of the catalogue, M admitted items, Q items of a chunk, H width of text vectors, K neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.encoders.whitening import Whitening

_MAX_SIMILARITIES = 8_000_000


@torch.no_grad()
def nearest_items(vectors_NH: torch.Tensor, admitted_N: NDArray[np.bool_], num_neighbours: int) -> NDArray[np.int64]:
    """Return the admitted items whose texts are most like each item's, nearest first, shape (N, K).

    likeness = cosine of the whitened vectors, (x - mean) C^(-1/4), as in content_knn. An item is not its own neighbour.
    Of equals the one that stands first in the catalogue is nearer. Where fewer than K are there, the rest is -1.

    Args:
        vectors_NH: text vectors of the catalogue.
        admitted_N: which items may be neighbours.
        num_neighbours: K, from 1.
    """
    whitened_NH = Whitening.fit(vectors_NH.float())(vectors_NH.float())
    unit_NH = torch.nn.functional.normalize(whitened_NH, dim=1)
    admitted_M = torch.from_numpy(np.flatnonzero(admitted_N)).to(unit_NH.device)
    neighbours_NK = np.full((len(unit_NH), num_neighbours), -1, dtype=np.int64)
    count = min(num_neighbours, len(admitted_M))
    chunk = max(1, _MAX_SIMILARITIES // max(1, len(admitted_M)))
    for start in range(0, len(unit_NH), chunk):
        items_Q = torch.arange(start, min(start + chunk, len(unit_NH)), device=unit_NH.device)
        likeness_QM = unit_NH[items_Q] @ unit_NH[admitted_M].T
        likeness_QM[items_Q[:, None] == admitted_M] = -torch.inf
        sorted_QM = likeness_QM.sort(dim=1, descending=True, stable=True)
        found_QK = admitted_M[sorted_QM.indices[:, :count]]
        found_QK[sorted_QM.values[:, :count] == -torch.inf] = -1
        neighbours_NK[start : start + len(items_Q), :count] = found_QK.cpu().numpy()
    return neighbours_NK
