"""Softmax over the whole catalogue."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

import torch

from peftrec.config import Range
from peftrec.losses.cross_entropy import chunked_cross_entropy
from peftrec.losses.loss import LossConfig, LossInputs
from peftrec.losses.negatives import CatalogueNegatives


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullSoftmax(LossConfig):
    """Exact cross-entropy of the next item among all items with training events; each of them gets its gradient.

    loss = mean_p [ logsumexp_n(u_p . v_n + b_n) - (u_p . v_target + b_target) ]

    Args:
        mask_seen: which of the user's own training items are left out of the sum: those before the target (its lists
            leave them out as well), all, or none.
        max_logits: logits held at a time (4 bytes each).
    Source:
        Kang and McAuley (2018) for the next-item objective; the full softmax as in Klenitskiy and Vasilev (2023),
        Turning Dross Into Gold Loss, eq. 4.
    """

    kind: ClassVar[str] = "full_softmax"

    mask_seen: Literal["past", "all", "none"] = "past"
    max_logits: Annotated[int, Range(ge=1)] = 8_000_000

    @property
    def source(self) -> CatalogueNegatives:
        return CatalogueNegatives()

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        return chunked_cross_entropy(inputs, bias_C=inputs.bias_C, mask_seen=self.mask_seen, max_logits=self.max_logits)
