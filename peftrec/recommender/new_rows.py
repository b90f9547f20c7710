"""Items on their way into the catalogue.

Shapes: C items, D width of vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from peftrec.data.item_field import FieldValue


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewRows:
    """Items as rows of the index.

    Args:
        ids: of the items.
        texts: of each.
        titles: of each.
        fields: of each, as `FieldTable.read` returns them.
        counts: training events of each.
        vectors_CD: of each.
        bias_C: of each.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    titles: Sequence[str]
    fields: Sequence[Mapping[str, FieldValue]]
    counts: torch.Tensor
    vectors_CD: torch.Tensor
    bias_C: torch.Tensor
