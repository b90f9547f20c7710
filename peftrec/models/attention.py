"""Attention pooling of the history.

Shapes: B users, L places, P places in use of all users, A heads, D width, E width of a head's values.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from peftrec.config import Range
from peftrec.models.places import Bucket, Places
from peftrec.models.residual_encoder import ResidualEncoder, ResidualEncoderConfig, check_heads
from peftrec.models.user_encoder import HistoryMemory

_DEFAULT_HEADS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionUserEncoder(ResidualEncoderConfig):
    """A mean of the history in which learned queries weigh the events.

    pooled_l = sum over j <= l of softmax_j(a_j) v_j; user = out(norm(pooled_l)), or with `recency_start` weighted mean
    of the newest items + out(norm(pooled_l)) with `out` zero at first. `additive`: a_j = q . tanh(W x_j + b), v_j =
    x_j. `multi_head`: for each head a_j = q . K x_j / sqrt(D / A), v_j = V x_j, heads side by side. Pooling knows no
    order; the weighted mean does.

    Args:
        pooling: see above.
        num_heads: A, for `multi_head`; divides the width; None takes 4.
    Source:
        additive: Wu et al. (2019), Neural News Recommendation with Attentive Multi-View Learning, and the last step of
        Wu et al. (2019), Neural News Recommendation with Multi-Head Self-Attention; W is square here. multi_head: Lee
        et al. (2019), Set Transformer, sec. 3.2, with one seed and without its feed-forward parts. `out`, norm and the
        residual start differ.
    """

    kind: ClassVar[str] = "attention"

    pooling: Literal["additive", "multi_head"] = "additive"
    num_heads: Annotated[int, Range(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.pooling == "additive" and self.num_heads is not None:
            raise ValueError(f"num_heads: {self.num_heads} is of pooling: multi_head; leave it out for additive")

    def check_dim(self, dim: int) -> None:
        if self.pooling == "multi_head":
            check_heads(self.num_heads or _DEFAULT_HEADS, dim)

    def memory(self, dim: int) -> HistoryMemory:
        heads = 1 if self.pooling == "additive" else self.num_heads or _DEFAULT_HEADS
        return HistoryMemory(place=super().memory(dim).place + 8 * dim, pair=heads)

    def build(self, dim: int) -> nn.Module:
        self.check_dim(dim)
        additive = self.pooling == "additive"
        pooling = _Additive(dim) if additive else _MultiHead(dim, self.num_heads or _DEFAULT_HEADS)
        return ResidualEncoder(self, dim, [pooling])


class _Additive(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, 1, bias=False)

    def forward(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        return _pool(self._scores(states_PD), states_PD, places)

    def newest_weights(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        """Return the weights of one user's events, shape (P, 1); for `newest_attention`."""
        del places
        return self._scores(states_PD).softmax(0)

    def _scores(self, states_PD: torch.Tensor) -> torch.Tensor:
        scores_P1: torch.Tensor = self.query(torch.tanh(self.hidden(states_PD)))
        return scores_P1


class _MultiHead(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(num_heads, dim // num_heads))
        nn.init.xavier_uniform_(self.queries)
        self.key_value = nn.Linear(dim, 2 * dim)

    def forward(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        keys_PD, values_PD = self.key_value(states_PD).chunk(2, dim=1)
        return _pool(self._scores(keys_PD), values_PD, places)

    def newest_weights(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        """Return the weights of one user's events, shape (P, A); for `newest_attention`."""
        del places
        return self._scores(self.key_value(states_PD).chunk(2, dim=1)[0]).softmax(0)

    def _scores(self, keys_PD: torch.Tensor) -> torch.Tensor:
        keys_PAE = keys_PD.view(-1, *self.queries.shape)
        scores_PA: torch.Tensor = (keys_PAE * self.queries).sum(2) / self.queries.shape[1] ** 0.5
        return scores_PA


def _pool(scores_PA: torch.Tensor, values_PD: torch.Tensor, places: Places) -> torch.Tensor:
    """Return the mean of values up to each place, weighted by the softmax of scores; each head has its share of D."""
    num_heads = scores_PA.shape[1]

    def mean(packed_BLX: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        scores_BLA, values_BLD = packed_BLX.tensor_split([num_heads], dim=2)
        values_BALE = values_BLD.reshape(*values_BLD.shape[:2], num_heads, -1).transpose(1, 2)
        # Unlike a running sum of exponentials, a masked softmax never divides by what has vanished.
        scores_BA1L = scores_BLA.transpose(1, 2)[:, :, None]
        weights_BALL = scores_BA1L.masked_fill(~bucket.visible_LL, -torch.inf).softmax(3)
        return torch.matmul(weights_BALL, values_BALE).transpose(1, 2).flatten(2)

    return places.by_bucket(torch.cat([scores_PA, values_PD], dim=1), mean)
