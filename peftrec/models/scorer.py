"""How a user vector and an item vector become a score."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import Range
from peftrec.models.second_stage import SecondStage


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """What all scorers share: score = scale * user . item, both prepared by `prepare`.

    Args:
        start_scale: the learned scale at the start.
    """

    kind: ClassVar[str]

    start_scale: Annotated[float, Range(gt=0)] = 1.0

    def prepare(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return user or item vectors as they enter the dot product."""
        raise NotImplementedError

    def second_stage(self, dim: int) -> SecondStage | None:
        """Return what scores the best items by this score again, or None.

        Args:
            dim: width of user and item vectors.
        """
        del dim
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DotScorer(ScorerConfig):
    """score = scale * (user . item)."""

    kind: ClassVar[str] = "dot"

    def prepare(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineScorer(ScorerConfig):
    """score = scale * cos(user, item); the zero vector scores 0 with everything."""

    kind: ClassVar[str] = "cosine"

    start_scale: Annotated[float, Range(gt=0)] = 15.0

    def prepare(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.normalize(vectors, dim=-1)


class LearnedScale(nn.Module):
    """A positive number that trains as its logarithm."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> torch.Tensor:
        """Return the scale, a scalar."""
        return self.log_scale.exp()
