"""What the attributes of items, or of users, add to their vectors; and the `attributes` section of a recipe.

Shapes: C rows at hand, N rows in all, F numbers of a row, M values of one column in a row, D width of item vectors.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import nn

from peftrec.config import Range
from peftrec.data import AttributeFeatures, FittedAttributes
from peftrec.data.attribute_fit import OTHER
from peftrec.encoders.dropout import Dropout

_NUM_PROBES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributesConfig:
    """How `data.item_attributes` and `data.user_attributes` become vectors, the same for both.

    Args:
        embedding_dim: width of the learned vectors of labels, for each column.
        hidden_dim: inner width of the MLP.
        dropout: on its inner activations.
    """

    embedding_dim: Annotated[int, Range(ge=1)] = 16
    hidden_dim: Annotated[int, Range(ge=1)] = 64
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.3


class AttributePart(nn.Module):
    """Maps attributes to what is added to an item's, or a user's, vector.

    part = MLP([numbers; mean vector of each column of labels]), or 0 where nothing at all is known. The last layer of
    the MLP is zero at the start, so that training starts where it does without attributes.

    Args:
        config: the `attributes` section.
        fitted: the columns as training has seen them.
        dim: D.
    """

    def __init__(self, config: AttributesConfig, fitted: FittedAttributes, dim: int) -> None:
        super().__init__()
        self.fitted = fitted
        self.embeddings = nn.ModuleList(nn.Embedding(size, config.embedding_dim) for size in fitted.vocabulary_sizes)
        for table in self.embeddings:
            # Where training holds no rare value this stays so, and a new one says as little as a missing one.
            nn.init.zeros_(table.weight[OTHER])  # type: ignore[index]
        width = fitted.num_numbers + config.embedding_dim * len(self.embeddings)
        last = nn.Linear(config.hidden_dim, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(width, config.hidden_dim), nn.GELU(), Dropout(config.dropout), last)
        self._rows: _Rows | None = None

    @property
    def device(self) -> torch.device:
        """Where the module lives."""
        return next(self.mlp.parameters()).device

    def set_rows(self, features: AttributeFeatures) -> None:
        """Take the attributes of the N rows that `forward` finds by their index; those taken before are forgotten."""
        self._rows = _Rows.of(features)

    @property
    def rows(self) -> AttributeFeatures:
        """What `set_rows` took."""
        assert self._rows is not None, "attributes of no row have been set"
        return self._rows.features()

    def forward(self, rows_C: torch.Tensor) -> torch.Tensor:
        """Return the parts of some rows, shape (C, D); 0 for row -1."""
        assert self._rows is not None, "attributes of no row have been set"
        self._rows = self._rows.to(self.device)
        part_CD = self._encode(self._rows[rows_C.clamp(min=0)])
        return part_CD * (rows_C >= 0)[:, None]

    def of(self, features: AttributeFeatures) -> torch.Tensor:
        """Return the parts of rows that are not among those set, shape (C, D)."""
        return self._encode(_Rows.of(features).to(self.mlp[0].weight.device))  # type: ignore[arg-type]

    @torch.no_grad()
    def probe(self) -> torch.Tensor:
        """Return the parts of a few rows that are made up, by which a loaded module is compared with the saved one."""
        place = torch.arange(_NUM_PROBES)
        numbers = torch.linspace(-2, 2, _NUM_PROBES)[:, None].expand(-1, self.fitted.num_numbers)
        codes = tuple(place[:, None] % size for size in self.fitted.vocabulary_sizes)
        made_up = _Rows(torch.ones(_NUM_PROBES, dtype=torch.bool), numbers, codes)
        return self._encode(made_up.to(self.mlp[0].weight.device))  # type: ignore[arg-type]

    def _encode(self, rows: _Rows) -> torch.Tensor:
        columns = [rows.numbers_CF]
        for table, codes_CM in zip(self.embeddings, rows.codes, strict=True):
            valid_CM = codes_CM >= 0
            vectors_CME = table(codes_CM.clamp(min=0)) * valid_CM[..., None]
            columns.append(vectors_CME.sum(1) / valid_CM.sum(1, keepdim=True).clamp(min=1))
        part_CD: torch.Tensor = self.mlp(torch.cat(columns, dim=1))
        return part_CD * rows.known_C[:, None]


@dataclasses.dataclass(frozen=True)
class _Rows:
    """`AttributeFeatures` as tensors of one device."""

    known_C: torch.Tensor
    numbers_CF: torch.Tensor
    codes: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, features: AttributeFeatures) -> _Rows:
        codes = tuple(torch.from_numpy(codes) for codes in features.codes)
        return cls(torch.from_numpy(features.known), torch.from_numpy(features.numbers), codes)

    def features(self) -> AttributeFeatures:
        codes = tuple(codes_CM.cpu().numpy() for codes_CM in self.codes)
        return AttributeFeatures(self.known_C.cpu().numpy(), self.numbers_CF.cpu().numpy(), codes)

    def to(self, device: torch.device) -> _Rows:
        codes = tuple(codes_CM.to(device) for codes_CM in self.codes)
        return _Rows(self.known_C.to(device), self.numbers_CF.to(device), codes)

    def __getitem__(self, rows_C: torch.Tensor) -> _Rows:
        codes = tuple(codes_CM[rows_C] for codes_CM in self.codes)
        return _Rows(self.known_C[rows_C], self.numbers_CF[rows_C], codes)
