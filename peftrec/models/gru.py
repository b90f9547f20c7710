"""Gated recurrent units over the history.

Shapes: B users, L events of the longest history, P places in use of all users, D width, W width of the state.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from peftrec.config import Range
from peftrec.models.places import Places, move_rows
from peftrec.models.residual_encoder import ResidualEncoder, ResidualEncoderConfig
from peftrec.models.user_encoder import HistoryMemory
from peftrec.models.whole_places import WholePlaces


@dataclasses.dataclass(frozen=True, kw_only=True)
class GruUserEncoder(ResidualEncoderConfig):
    """A recurrent network that reads the history event by event, oldest first.

    h_l = GRU(x_l, h_(l-1)) with h_0 = 0; user = out(norm(h_l)), or with `recency_start` weighted mean of the newest
    items + out(norm(h_l)) with `out` zero at first.

    Args:
        num_layers: networks on top of each other; dropout between them.
        state_dim: W, width of the state; None takes the width of item vectors.
    Source:
        Hidasi et al. (2016), Session-based Recommendations with Recurrent Neural Networks; item vectors in place of
        one-hot inputs, and the residual start.
    """

    kind: ClassVar[str] = "gru"

    num_layers: Annotated[int, Range(ge=1)] = 1
    state_dim: Annotated[int, Range(ge=1)] | None = None

    def memory(self, dim: int) -> HistoryMemory:
        return HistoryMemory(place=super().memory(dim).place + self.num_layers * 18 * (self.state_dim or dim))

    def build(self, dim: int) -> nn.Module:
        width = self.state_dim or dim
        return ResidualEncoder(self, dim, [_Gru(self, dim, width)], width=width)


class _Gru(nn.Module):
    def __init__(self, config: GruUserEncoder, dim: int, width: int) -> None:
        super().__init__()
        between = config.dropout if config.num_layers > 1 else 0.0
        self.gru = nn.GRU(dim, width, config.num_layers, batch_first=True, dropout=between)

    def forward(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        if isinstance(places, WholePlaces):
            return self.gru(places.unpack(states_PD))[0].flatten(0, 1)  # type: ignore[no-any-return]
        if not len(states_PD):
            return states_PD.new_zeros(0, self.gru.hidden_size)
        # Torch reads all first events, then all second ones, of the users from long histories to short.
        lengths_B, order_B = places.lengths_B.sort(descending=True, stable=True)
        used_LB = torch.arange(int(lengths_B[0]), device=states_PD.device)[:, None] < lengths_B
        number_LB = places.starts_B[order_B] + torch.arange(len(used_LB), device=states_PD.device)[:, None]
        number_P = number_LB[used_LB]
        back_P = torch.empty_like(number_P)
        back_P[number_P] = torch.arange(len(number_P), device=states_PD.device)
        read = PackedSequence(move_rows(states_PD, number_P, None, back_P, None), used_LB.sum(1).cpu())
        return move_rows(self.gru(read)[0].data, back_P, None, number_P, None)
