"""Mean pooling of the history."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from torch import nn

from peftrec.config import Range
from peftrec.models.user_encoder import RecencyMean, UserEncoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanUserEncoder(UserEncoderConfig):
    """user = mean of the last `max_history` item vectors, weighted by decay^k, newest k = 0.

    Args:
        decay: 1 is the plain mean.
        learned: whether the weight of each place trains.
    """

    kind: ClassVar[str] = "mean"

    decay: Annotated[float, Range(gt=0, le=1)] = 1.0
    learned: bool = False

    def build(self, dim: int) -> nn.Module:
        del dim
        return RecencyMean(self.max_history, self.decay, learned=self.learned)
