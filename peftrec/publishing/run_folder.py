"""What lies in a run folder under which name, and what is held of one that was loaded.

Shapes: N items of the catalogue, D width of item vectors.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.baselines import FittedBaseline
from peftrec.data import Catalogue
from peftrec.evaluation import ProductScores, UserScores
from peftrec.models import RecommenderModel, scores_with
from peftrec.recipe import Recipe

RECIPE, HEAD, IDS = "recipe.yaml", "head.safetensors", "ids.safetensors"
# What belongs to each item beside its text: counts of training, the logit added to its score. Vectors are apart, as
# they can be computed again from the rest.
ITEM_SCORES, VECTORS = "items.safetensors", "item_vectors.safetensors"
BASELINE, METRICS, ENVIRONMENT = "baseline.safetensors", "metrics.json", "environment.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
ENSEMBLE = "ensemble.json"
# Where each adapter lies in the folder.
PLACES = {"adapter": "", "user_adapter": "user_adapter/"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A loaded run.

    Args:
        folder: where it lies.
        recipe: resolved, as trained.
        catalogue: ids, texts and titles.
        train_counts_N: training events of each item.
        model: None for baselines.
        baseline: None for models.
        vectors_ND: item vectors, as stored or encoded anew; None for baselines.
        bias_N: logit added to each item's score; None for baselines.
    """

    folder: Path
    recipe: Recipe
    catalogue: Catalogue
    train_counts_N: torch.Tensor
    model: RecommenderModel | None
    baseline: FittedBaseline | None
    vectors_ND: torch.Tensor | None
    bias_N: torch.Tensor | None

    @property
    def models(self) -> tuple[RecommenderModel, ...]:
        """All models that it scores with."""
        return () if self.model is None else (self.model,)

    def member_scores(self) -> dict[str, UserScores | ProductScores]:
        """Return the scores of the members of an ensemble by their names; other runs have none."""
        return {}

    def scores(
        self,
        histories_BL: NDArray[np.int64],
        users_B: NDArray[np.int64] | None = None,
        events_BL: NDArray[np.int64] | None = None,
        times_BL: NDArray[np.int64] | None = None,
    ) -> torch.Tensor:
        """Return the scores of the whole catalogue, shape (B, N); arguments as of `CatalogueScores`."""
        if self.baseline is not None:
            return self.baseline.scores(histories_BL)
        assert self.model is not None
        assert self.vectors_ND is not None
        assert self.bias_N is not None
        return scores_with(self.model, self.vectors_ND, self.bias_N)(histories_BL, users_B, events_BL, times_BL)

    @property
    def scorer(self) -> UserScores | ProductScores:
        """What ranks the catalogue: `scores`, or the vectors that they are the products of."""
        if self.model is None or self.vectors_ND is None or self.bias_N is None:
            return self.baseline if isinstance(self.baseline, ProductScores) else self.scores
        return scores_with(self.model, self.vectors_ND, self.bias_N)
