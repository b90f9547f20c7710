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
        start_scale: the scale at the start, which is 1 / temperature of a softmax.
        learn_scale: whether it trains; False keeps it as it is.
    """

    kind: ClassVar[str]

    start_scale: Annotated[float, Range(gt=0)] = 1.0
    learn_scale: bool = True

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
    """A positive number that trains as its logarithm, or stays as it is; and a margin, which training alone knows.

    With a margin, a logit of the loss is scale * (user . item - margin). It is the same for all items: no list and no
    softmax depends on it, but a loss that judges each logit by itself needs to say where "no" begins.

    Args:
        start: the number at the start.
        learned: whether it trains.
        learns_margin: whether there is a margin, which starts at 0 and trains.
    Source:
        Zhai et al. (2023), Sigmoid Loss for Language Image Pre-Training, sec. 3.2, whose bias is -scale * margin.
    """

    log_scale: torch.Tensor

    def __init__(self, start: float, *, learned: bool = True, learns_margin: bool = False) -> None:
        super().__init__()
        log_start = torch.tensor(math.log(start))
        if learned:
            self.log_scale = nn.Parameter(log_start)
        else:
            self.register_buffer("log_scale", log_start)
        self.margin = nn.Parameter(torch.zeros(())) if learns_margin else None

    def forward(self) -> torch.Tensor:
        """Return the scale, a scalar."""
        return self.log_scale.exp()

    def add_offset(self, bias_C: torch.Tensor | None, num_items: int) -> torch.Tensor | None:
        """Return what is added to the logits of items in training, shape (C,): their bias less scale * margin.

        Args:
            bias_C: of the items, or None.
            num_items: C.
        """
        if self.margin is None:
            return bias_C
        offset: torch.Tensor = -self() * self.margin
        return offset.expand(num_items) if bias_C is None else bias_C + offset
