"""The precision of a text encoder: a lower one in training at most, the full one whenever vectors are kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch


class HasPrecision(Protocol):
    """What `in_training_precision` asks of an encoder."""

    training: bool
    training_dtype: torch.dtype | None

    @property
    def device(self) -> torch.device:
        """Where it lives."""


_Encoder = TypeVar("_Encoder", bound=HasPrecision)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def in_training_precision(
    method: Callable[Concatenate[_Encoder, _P], _R],
) -> Callable[Concatenate[_Encoder, _P], _R]:
    """Let a method of an encoder run under autocast to its `training_dtype` in training mode, and without in eval mode.

    So what trains is in low precision alike in the first pass and in the second of gradient caching, whoever calls; and
    what is whitened, evaluated, stored or compared on another machine is in the precision of the weights. Parameters
    are float32, and so are their gradients.
    """

    @functools.wraps(method)
    def run(encoder: _Encoder, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        dtype = encoder.training_dtype if encoder.training else None
        with torch.autocast(encoder.device.type, dtype=dtype, enabled=dtype is not None):
            return method(encoder, *args, **kwargs)

    return run


def full_precision(method: Callable[Concatenate[_Encoder, _P], _R]) -> Callable[Concatenate[_Encoder, _P], _R]:
    """Let a method of an encoder run without autocast."""

    @functools.wraps(method)
    def run(encoder: _Encoder, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.autocast(encoder.device.type, enabled=False):
            return method(encoder, *args, **kwargs)

    return run
