"""Causal transformer over the history.

Shapes: B users, L places, P places in use of all users, A heads, D width.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

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
class TransformerUserEncoder(ResidualEncoderConfig):
    """A causal transformer, trained on every place of the history.

    user = out(transformer(items)), or with `recency_start` weighted mean of the newest items + out(...) with `out` zero
    at first, so that training starts from recency-weighted similarity. Blocks are pre-norm. Attention is
    softmax_j(q_l . k_j / sqrt(D / A) + distance_bias[l - j] + time_bias[bucket(t_l - t_j)]) over j <= l; both biases
    are learned, one for each head, zero at first, and there only where they are asked for. Dropout is not on attention
    weights.

    Args:
        num_layers: blocks.
        num_heads: attention heads; divides the width.
        feedforward: inner width of a block's feed-forward part, as a multiple of the width.
        positions: how order enters: `distance`, a bias by how many events lie between; `learned`, a vector added to
            each input by its place, counted from the oldest event that is read, zero at first; `none`.
        time_intervals: whether attention has a bias by the time between two events, in 32 buckets that double from one
            second to 34 years; then histories need times.
    Source:
        Kang and McAuley (2018), Self-Attentive Sequential Recommendation; pre-norm, biases by distance (as in Raffel
        et al., 2020) and the residual start differ. Time: Li, Wang and McAuley (2020), Time Interval Aware
        Self-Attention for Sequential Recommendation, whose intervals are clipped multiples of each user's shortest one
        and enter keys and values; here they are a bias by logarithmic buckets, as in Zhai et al. (2024), eq. 2.
    """

    kind: ClassVar[str] = "transformer"

    num_layers: Annotated[int, Range(ge=1)] = 1
    num_heads: Annotated[int, Range(ge=1)] = 4
    feedforward: Annotated[int, Range(ge=1)] = 1
    positions: Literal["distance", "learned", "none"] = "distance"
    time_intervals: bool = False

    @property
    def needs_times(self) -> bool:
        return self.time_intervals

    def check_dim(self, dim: int) -> None:
        check_heads(self.num_heads, dim)

    def memory(self, dim: int) -> HistoryMemory:
        place = super().memory(dim).place + self.num_layers * (18 + 2 * self.feedforward) * dim
        # Weights of attention, held where there is a bias; the bucket between two times, of 8 bytes, for all layers.
        biased = self.positions == "distance" or self.time_intervals
        return HistoryMemory(place=place, pair=self.num_layers * self.num_heads * biased + 2 * self.time_intervals)

    def build(self, dim: int) -> nn.Module:
        self.check_dim(dim)
        first = [_LearnedPositions(self.max_history, dim)] if self.positions == "learned" else []
        return ResidualEncoder(self, dim, [*first, *(_Block(self, dim) for _ in range(self.num_layers))])


class _LearnedPositions(nn.Module):
    def __init__(self, max_history: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(max_history, dim))

    def forward(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        # From the oldest: from the newest, an event's place would tell how many follow it.
        return states_PD + F.embedding(places.numbers_P, self.table)


class _Block(nn.Module):
    def __init__(self, config: TransformerUserEncoder, dim: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        distance = config.positions == "distance"
        self.lag_bias = nn.Parameter(torch.zeros(config.num_heads, config.max_history)) if distance else None
        self.time_bias = new_time_bias(config.num_heads) if config.time_intervals else None
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, config.feedforward * dim),
            nn.GELU(),
            nn.Linear(config.feedforward * dim, dim),
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        mixed_PD = places.by_bucket(self.query_key_value(self.attention_norm(states_PD)), self._attend)
        states_PD = states_PD + self.dropout(self.attention_out(mixed_PD))
        return states_PD + self.dropout(self.feedforward(states_PD))  # type: ignore[no-any-return]

    def newest_weights(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        """Return the attention of one user's newest event to each event, shape (P, A); for `newest_attention`."""
        return places.by_bucket(self.query_key_value(self.attention_norm(states_PD)), self._newest_weights)

    def _newest_weights(self, packed_BLX: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        users, length = packed_BLX.shape[:2]
        query, key, _ = packed_BLX.view(users, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores_BALL = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        bias = relative_bias(self.lag_bias, self.time_bias, bucket)
        newest_BAL: torch.Tensor = (scores_BALL if bias is None else scores_BALL + bias)[:, :, -1]
        return newest_BAL.softmax(-1).transpose(1, 2)

    def _attend(self, packed_BLX: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        users, length = packed_BLX.shape[:2]
        query, key, value = packed_BLX.view(users, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = relative_bias(self.lag_bias, self.time_bias, bucket)
        if bias is None:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            bias = bias.masked_fill(~bucket.visible_LL, -torch.inf)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias if bias.ndim == 4 else bias[None])
        return mixed.transpose(1, 2).flatten(2)
