"""Counting parameters and bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters of one part of a recommender.

    Args:
        trainable: parameters that the optimiser moves.
        stored: numbers that the run folder holds for this part.
        stored_bytes: their size in bytes.
        total: all parameters of the part, the frozen ones included; quantised weights count as those they stand for.
        dtype: of what is stored, such as `float32`; empty where nothing is.
    """

    trainable: int
    stored: int
    stored_bytes: int
    total: int
    dtype: str


def num_weights(tensor: torch.Tensor) -> int:
    """Return how many weights a tensor stands for: a tensor of 4-bit weights packs two into a number."""
    state = getattr(tensor, "quant_state", None)
    return tensor.numel() if state is None else math.prod(state.shape)


def count_parameters(
    *, trainable: Iterable[torch.Tensor], stored: Iterable[torch.Tensor], total: Iterable[torch.Tensor]
) -> ParameterCount:
    """Count the numbers in three sets of tensors; see `ParameterCount`."""
    stored = list(stored)
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in stored})
    return ParameterCount(
        trainable=sum(tensor.numel() for tensor in trainable),
        stored=sum(tensor.numel() for tensor in stored),
        stored_bytes=sum(tensor.numel() * tensor.element_size() for tensor in stored),
        total=sum(num_weights(tensor) for tensor in total),
        dtype=", ".join(dtypes),
    )
