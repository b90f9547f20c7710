"""The precision of a text encoder: a lower one in training at most, the full one whenever vectors are kept."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from peftrec.encoders.config import EncoderConfig


class HasPrecision(Protocol):
    """What `in_training_precision` asks of an encoder."""

    config: EncoderConfig
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
        device = encoder.device.type
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None), contextlib.ExitStack() as settings:
            # The way back through torch's fused attention takes five times as long in bfloat16 on a CPU as in float32,
            # and about as long as all matrix products. With checkpointing it would still be taken on the way back.
            if dtype is not None and device == "cpu" and not encoder.config.gradient_checkpointing:
                settings.enter_context(sdpa_kernel(SDPBackend.MATH))
            return method(encoder, *args, **kwargs)

    return run


def full_precision(method: Callable[Concatenate[_Encoder, _P], _R]) -> Callable[Concatenate[_Encoder, _P], _R]:
    """Let a method of an encoder run without autocast."""

    @functools.wraps(method)
    def run(encoder: _Encoder, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.autocast(encoder.device.type, enabled=False):
            return method(encoder, *args, **kwargs)

    return run


def exact_products(method: Callable[Concatenate[_Encoder, _P], _R]) -> Callable[Concatenate[_Encoder, _P], _R]:
    """Let a method of an encoder, whose vectors are kept, run without TF32, also inside of training that uses it."""

    @functools.wraps(method)
    def run(encoder: _Encoder, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not _is_gpu(encoder.device):
            return method(encoder, *args, **kwargs)
        with tf32_products(allowed=False):
            return method(encoder, *args, **kwargs)

    return run


@contextlib.contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Let matrix products on a GPU round their inputs to TF32 inside this context, or not.

    That is global to the process, and put back at the end: who comes next may want it otherwise.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    name, value, switches = "allow_tf32", cast(Any, allowed), (matmul, cudnn)
    try:
        before = [getattr(switch, name) for switch in switches]
    except RuntimeError:
        # Whoever has set torch's newer switches can no longer read these.
        name, value, switches = "fp32_precision", "tf32" if allowed else "ieee", (matmul, cudnn.conv)
        before = [getattr(switch, name) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, name, value)
        yield
    finally:
        for switch, old in zip(switches, before, strict=True):
            setattr(switch, name, old)


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"
