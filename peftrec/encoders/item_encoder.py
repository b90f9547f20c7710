"""From pooled text vectors and ids to item vectors: the head.

Shapes: C items, H width of text vectors, D width of item vectors, N items of the catalogue.
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import InputError
from peftrec.data import AttributeFeatures
from peftrec.encoders.attribute import AttributePart
from peftrec.encoders.config import EncoderConfig
from peftrec.encoders.dropout import Dropout
from peftrec.encoders.whitening import Whitening


class ItemEncoder(nn.Module):
    """Fuses what an item says with who interacted with it.

    item = P unit(W t) + MLP(unit(W t)) + id with the residual head, Linear(W t) + id with the projection head; W is the
    whitening (identity where it is off), t the pooled text vector, and P keeps the D axes of most variance. The MLP
    ends in zeros and ids start near zero, so that the residual head starts from the text similarities. Where items have
    attributes, the part of these is added, which starts at zero.

    Args:
        config: the `encoder` section.
        text_dim: H; 0 where texts are not used.
        has_id_N: which items had training interactions; the others have no id vector. None where ids are not used.
        attributes: the part of the attributes; None where there are none.
    Raises:
        InputError: if the residual head is to be wider than the text vectors.
    """

    whitening_mean: torch.Tensor
    whitening_matrix: torch.Tensor
    has_id: torch.Tensor

    def __init__(
        self,
        config: EncoderConfig,
        text_dim: int,
        has_id_N: torch.Tensor | None,
        attributes: AttributePart | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        dim = config.embedding_dim or text_dim
        self.dim = dim
        self.attributes = attributes
        if config.uses_text and config.head == "residual" and dim > text_dim:
            raise InputError(
                f"encoder.embedding_dim is {dim}, but text vectors have {text_dim} dimensions; use at most that, or "
                f"encoder.head: projection"
            )
        if config.uses_text:
            if config.whitening:
                self.register_buffer("whitening_mean", torch.zeros(text_dim))
                self.register_buffer("whitening_matrix", torch.zeros(text_dim, text_dim))
            if config.head == "residual":
                last = nn.Linear(config.residual_dim, dim)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
                self.residual = nn.Sequential(
                    Dropout(config.dropout),
                    nn.Linear(text_dim, config.residual_dim),
                    nn.GELU(),
                    last,
                    Dropout(config.dropout),
                )
            else:
                self.projection = nn.Linear(text_dim, dim)
        if config.uses_ids:
            assert has_id_N is not None, "ids need to know which items had training interactions"
            self.register_buffer("has_id", has_id_N.bool())
            self.id_vectors = nn.Parameter(torch.randn(len(has_id_N), dim) * config.id_std)
            if config.item_bias:
                self.bias = nn.Parameter(torch.zeros(len(has_id_N)))

    @torch.no_grad()
    def fit_whitening(self, text_vectors_NH: torch.Tensor) -> None:
        """Fit the whitening to the vectors that the frozen backbone gives the catalogue."""
        if not (self.config.uses_text and self.config.whitening):
            return
        fitted = Whitening.fit(
            text_vectors_NH,
            power=-self.config.whitening_power,
            ridge=self.config.whitening_ridge,
            dim=len(self.whitening_mean),
        )
        self.whitening_mean.copy_(fitted.mean)
        self.whitening_matrix.copy_(fitted.matrix)

    def id_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that belong to single items."""
        return [parameter for name, parameter in self.named_parameters() if name in ("id_vectors", "bias")]

    def forward(
        self,
        text_vectors_CH: torch.Tensor | None,
        items_C: torch.Tensor | None,
        features: AttributeFeatures | None = None,
    ) -> torch.Tensor:
        """Return item vectors, shape (C, D), not of unit length.

        Args:
            text_vectors_CH: pooled text vectors; None where texts are not used.
            items_C: indexes in the trained catalogue, -1 for items that were not in it; None if none was.
            features: attributes of items that were not in it; those of others are known.
        Raises:
            InputError: if an item has neither text nor id nor attributes.
        """
        parts = []
        if items_C is None and not self.config.uses_text:
            self._refuse_unknown(features)
        if self.config.uses_text:
            assert text_vectors_CH is not None, "this encoder reads texts"
            parts.append(self._text_part(text_vectors_CH))
        if self.config.uses_ids and items_C is not None:
            parts.append(self._id_part(items_C))
        if self.attributes is not None and features is not None:
            parts.append(self.attributes.of(features))
        elif self.attributes is not None and items_C is not None:
            parts.append(self.attributes(items_C))
        return functools.reduce(torch.add, parts)

    def _refuse_unknown(self, features: AttributeFeatures | None) -> None:
        if self.attributes is None:
            raise InputError("this recommender knows ids only, so it cannot take in items that it was not trained with")
        if features is None or not features.known.all():
            raise InputError("this recommender reads no texts, so that a new item needs attributes; give some of each")

    def candidate_bias(self, items_C: torch.Tensor) -> torch.Tensor | None:
        """Return the learned logit of each item, shape (C,), 0 for unknown ones; None where there is none."""
        if not (self.config.uses_ids and self.config.item_bias):
            return None
        known_C = (items_C >= 0) & self.has_id[items_C.clamp(min=0)]
        return self.bias[items_C.clamp(min=0)] * known_C

    def unit_axes(self, text_vectors_CH: torch.Tensor) -> torch.Tensor:
        """Return text vectors on the (whitened) axes of the items, of unit length, shape (C, H)."""
        return F.normalize(self._axes(text_vectors_CH), dim=-1)

    def _axes(self, vectors_CH: torch.Tensor) -> torch.Tensor:
        if not self.config.whitening:
            return vectors_CH
        return (vectors_CH - self.whitening_mean) @ self.whitening_matrix

    def _text_part(self, vectors_CH: torch.Tensor) -> torch.Tensor:
        if self.config.head == "projection":
            return self.projection(self._axes(vectors_CH))  # type: ignore[no-any-return]
        unit_CH = self.unit_axes(vectors_CH)
        # Whitened axes stand in order of their variance: the first D carry most of the similarities.
        return unit_CH[:, : self.dim] + self.residual(unit_CH)  # type: ignore[no-any-return]

    def _id_part(self, items_C: torch.Tensor) -> torch.Tensor:
        known_C = (items_C >= 0) & self.has_id[items_C.clamp(min=0)]
        if self.training and self.config.id_dropout > 0:
            known_C = known_C & (torch.rand(len(items_C), device=items_C.device) >= self.config.id_dropout)
        return self.id_vectors[items_C.clamp(min=0)] * known_C[:, None]
