"""content_knn: items whose text is near to what the user had lately; nothing is trained.

Shapes: B batch, L history, K recent events, N catalogue, H backbone dimension, D dimension after whitening.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.baselines.baseline import Baseline, check_histories, check_tensors
from peftrec.config import InputError, Range
from peftrec.encoders.whitening import Whitening

if TYPE_CHECKING:
    from peftrec.data import Dataset

# Of small backbones; only estimates rest on it.
_USUAL_DIM: Final = 384


@dataclass(frozen=True, kw_only=True)
class ContentKNN(Baseline):
    """Rank items by their text's likeness to the user's recent items.

    item = unit((vector - mean) @ (covariance + ridge I)^-whitening_power); user = sum over the last `num_recent`
    events, newest first (k = 0, 1, ...), of decay^k item; score = user . item. A user without history scores 0
    everywhere, so that all items are tied. An item whose vector is the mean has no direction and scores 0 for everyone.

    Attributes:
        num_recent: events of the history that count, from 1.
        decay: weight of an event over that of the next newer one, above 0 and at most 1; 1 weighs all equally.
        whitening_power: from 0 (mean removed only) by 0.5 (full whitening) to 1.
        ridge: added to the covariance's diagonal, above 0, in squared units of the vectors.

    Source:
        The partial whitening follows Su et al. (2021), Whitening sentence representations, with the power 1/4 in
        place of 1/2.
    """

    kind: ClassVar[str] = "content_knn"
    needs_item_vectors: ClassVar[bool] = True
    has_seed: ClassVar[bool] = False

    num_recent: Annotated[int, Range(ge=1)] = 8
    decay: Annotated[float, Range(gt=0.0, le=1.0)] = 0.7
    whitening_power: Annotated[float, Range(ge=0.0, le=1.0)] = 0.25
    ridge: Annotated[float, Range(gt=0.0)] = 0.001

    def fit(self, dataset: Dataset, item_vectors: torch.Tensor | None = None) -> FittedContentKNN:
        """Whiten the item vectors over the catalogue and scale each to unit length; no events are read."""
        num_items = len(dataset.catalogue)
        if item_vectors is None:
            raise ValueError("content_knn needs item_vectors, the raw mean-pooled backbone vectors of all items")
        if item_vectors.ndim != 2 or len(item_vectors) != num_items:
            raise ValueError(
                f"item_vectors must have the shape ({num_items}, dimension) of the catalogue, "
                f"got {tuple(item_vectors.shape)}"
            )
        vectors_NH = item_vectors.detach().to(torch.float32)
        finite_N = vectors_NH.isfinite().all(dim=1)
        if not finite_N.all():
            row = int((~finite_N).nonzero()[0, 0])
            raise InputError(f"item_vectors hold NaN or infinite values; first: item {dataset.catalogue.ids[row]!r}")
        whitening = Whitening.fit(vectors_NH, power=-self.whitening_power, ridge=self.ridge)
        with torch.no_grad():
            unit_ND = torch.nn.functional.normalize(whitening(vectors_NH), dim=1)
        return FittedContentKNN(self, unit_ND)

    def fit_operations(self, dataset: Dataset) -> float:
        """Make the covariance, take its power, whiten: 4 N H^2 and some 30 H^3; the vectors are there."""
        return 4.0 * len(dataset.catalogue) * _USUAL_DIM**2 + 30.0 * _USUAL_DIM**3

    def fit_bytes(self, dataset: Dataset) -> float:
        """Hold the vectors raw, centred and whitened."""
        return 3 * 4.0 * len(dataset.catalogue) * _USUAL_DIM

    def from_tensors(self, tensors: Mapping[str, torch.Tensor]) -> FittedContentKNN:
        """Restore the stored unit vectors."""
        check_tensors(tensors, {"item_vectors": (torch.float32, 2)}, self.kind)
        return FittedContentKNN(self, tensors["item_vectors"])


class FittedContentKNN:
    """Unit item vectors, and the recency-weighted sum of the user's as query."""

    def __init__(self, config: ContentKNN, item_vectors_ND: torch.Tensor) -> None:
        self._item_vectors_ND = item_vectors_ND
        self.max_history = config.num_recent
        self.vectors_ND, self.bias_N = item_vectors_ND, item_vectors_ND.new_zeros(len(item_vectors_ND))
        # Newest last, as histories are.
        ages_K = torch.arange(config.num_recent - 1, -1, -1, device=item_vectors_ND.device)
        self._weights_K = torch.pow(config.decay, ages_K.to(torch.float32))

    def scores(self, histories_BL: NDArray[np.int64]) -> torch.Tensor:
        """Score the catalogue by dot product with the recent items; 0 everywhere for an empty history."""
        return self.user_vectors(histories_BL) @ self._item_vectors_ND.T

    def user_vectors(self, histories_BL: NDArray[np.int64], *_: Any) -> torch.Tensor:
        """Return what the item vectors are multiplied with, shape (B, D); nothing but histories is read."""
        check_histories(histories_BL, len(self._item_vectors_ND))
        recent_BK = torch.from_numpy(histories_BL[:, -len(self._weights_K) :].copy()).to(self._weights_K.device)
        weights_BK = self._weights_K[len(self._weights_K) - recent_BK.shape[1] :] * (recent_BK >= 0)
        vectors_BKD = self._item_vectors_ND[recent_BK.clamp(min=0)]
        return (weights_BK.unsqueeze(1) @ vectors_BKD).squeeze(1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give `item_vectors`, whitened and of unit length, float32, shape (N, D)."""
        return {"item_vectors": self._item_vectors_ND}
