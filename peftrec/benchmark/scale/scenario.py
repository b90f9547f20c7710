"""Data of one size, and how backbones are trained on them."""

from __future__ import annotations

import dataclasses
from typing import Final

from peftrec.benchmark.scale.gpu import Products
from peftrec.benchmark.scale.shape import LLAMA_7B, MINILM, BackboneShape, Tuning
from peftrec.benchmark.scale.size import Precision, Storage
from peftrec.benchmark.scale.work import UserSide


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Data, all of one size: every text and every history is as long as the mean.

    Args:
        items: of the catalogue.
        tokens: of a text.
        users: how many.
        events: of a user.
    """

    items: int = 10_000_000
    tokens: int = 32
    users: int = 100_000_000
    events: int = 20

    @property
    def places(self) -> int:
        """Events of a user that are read, and as many that are targets."""
        return self.events - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """How a backbone is trained.

    Args:
        name: for people.
        shape: of the backbone.
        tuning: what trains.
        storage: how its weights are stored.
        dim: width of item vectors, `encoder.embedding_dim`.
        graph_mib: `training.graph_memory_mib`.
        token_budget: `encoder.token_budget`.
        users: `training.batch_users`, of each process.
        drawn: negatives drawn beside the batch's items.
        precision: `training.mixed_precision`, `float32` for `no`.
    """

    name: str
    shape: BackboneShape
    tuning: Tuning
    storage: Storage
    dim: int
    graph_mib: int
    token_budget: int
    users: int = 64
    drawn: int = 0
    precision: Precision = "bf16"

    def with_drawn(self, drawn: int) -> Setting:
        """Return the same with so many negatives drawn beside the batch's items."""
        return dataclasses.replace(self, drawn=drawn)

    @property
    def side(self) -> UserSide:
        """Head and user encoder."""
        return UserSide(text_dim=self.shape.width, dim=self.dim)

    @property
    def trained(self) -> int:
        """Parameters that train, all of them."""
        return self.shape.trained_parameters(self.tuning) + self.side.parameters

    @property
    def products(self) -> Products:
        """Of products where nothing trains: bf16 where weights are so, or where 4-bit layers compute so."""
        return "float32" if self.storage == "float32" else "bf16"


_MINILM: Final = Setting(
    name="MiniLM-L6, LoRA", shape=MINILM, tuning=Tuning(), storage="float32", dim=384, graph_mib=24_576,
    token_budget=16_384,
)  # fmt: skip
_LLAMA: Final = Setting(
    name="7B, LoRA", shape=LLAMA_7B, tuning=Tuning(), storage="bfloat16", dim=256, graph_mib=16_384, token_budget=2048
)
SETTINGS: Final = (
    _MINILM,
    dataclasses.replace(_MINILM, name="MiniLM-L6, LoRA, top 2, cached", tuning=Tuning(layers=2)),
    _LLAMA,
    dataclasses.replace(_LLAMA, name="7B, LoRA on nf4", storage="nf4"),
    dataclasses.replace(
        _LLAMA, name="7B, LoRA, top 2, cached", tuning=Tuning(layers=2), graph_mib=24_576, token_budget=8192
    ),
)
"""The settings of the tables; beside what they say, `training.tf32` and a user encoder as it is by default."""
