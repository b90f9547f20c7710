"""HSTU: gated blocks with pointwise attention over the history.

Shapes: B users, L places, P places in use of all users, A heads, D width.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import Range
from peftrec.encoders.dropout import Dropout
from peftrec.models.places import Bucket, Places
from peftrec.models.residual_encoder import (
    ResidualEncoder,
    ResidualEncoderConfig,
    check_heads,
    new_time_bias,
    relative_bias,
)
from peftrec.models.user_encoder import HistoryMemory


@dataclasses.dataclass(frozen=True, kw_only=True)
class HstuUserEncoder(ResidualEncoderConfig):
    """Hierarchical sequential transduction units: attention weights are SiLU of the scores, not shares of a whole.

    Block: U, V, Q, K = silu(W1 norm(x) + b1); a_lj = silu(q_l . k_j + distance_bias[l - j] + time_bias[bucket(t_l -
    t_j)]) over j <= l; x + W2 (norm(sum_j a_lj v_j) * u_l) + b2. Biases are learned, one for each head, zero at first.
    user = out(blocks(items)), or with `recency_start` weighted mean of the newest items + out(...) with `out` zero at
    first.

    Args:
        num_layers: blocks.
        num_heads: attention heads; divides the width.
        time_intervals: whether scores have a bias by the time between two events, in 32 buckets that double from one
            second to 34 years; then histories need times.
    Source:
        Zhai et al. (2024), Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
        Recommendations, eq. 1 to 3. The sum over j is not divided by a length, which the norm behind it would undo;
        biases are one for each head and buckets double, where the published code shares biases and has buckets of a
        factor 1.35; its time runs to the event that is to be predicted, ours to the newest known one.
    """

    kind: ClassVar[str] = "hstu"

    num_layers: Annotated[int, Range(ge=1)] = 2
    num_heads: Annotated[int, Range(ge=1)] = 4
    time_intervals: bool = False

    @property
    def needs_times(self) -> bool:
        return self.time_intervals

    def check_dim(self, dim: int) -> None:
        check_heads(self.num_heads, dim)

    def memory(self, dim: int) -> HistoryMemory:
        place = super().memory(dim).place + self.num_layers * 20 * dim
        # Scores and weights of attention; the bucket between two times, of 8 bytes, for all layers.
        return HistoryMemory(place=place, pair=self.num_layers * 2 * self.num_heads + 2 * self.time_intervals)

    def build(self, dim: int) -> nn.Module:
        self.check_dim(dim)
        return ResidualEncoder(self, dim, [_Block(self, dim) for _ in range(self.num_layers)])


class _Block(nn.Module):
    def __init__(self, config: HstuUserEncoder, dim: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.lag_bias = nn.Parameter(torch.zeros(config.num_heads, config.max_history))
        self.time_bias = new_time_bias(config.num_heads) if config.time_intervals else None
        self.input_norm = nn.LayerNorm(dim)
        self.gate_value_query_key = nn.Linear(dim, 4 * dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        gate_PD, rest = F.silu(self.gate_value_query_key(self.input_norm(states_PD))).tensor_split(
            [states_PD.shape[1]], dim=1
        )
        mixed_PD = places.by_bucket(rest, self._attend)
        return states_PD + self.dropout(self.out(self.attention_norm(mixed_PD) * gate_PD))  # type: ignore[no-any-return]

    def _attend(self, rest_BLX: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        users, length = rest_BLX.shape[:2]
        value, query, key = rest_BLX.view(users, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = relative_bias(self.lag_bias, self.time_bias, bucket)
        assert bias is not None, "there is always a bias by distance"
        weights_BALL = F.silu(query @ key.transpose(2, 3) + bias) * bucket.visible_LL
        return torch.matmul(weights_BALL, value).transpose(1, 2).flatten(2)
