"""What training changes about the device and the encoders for as long as it lasts."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch

from peftrec.config import InputError
from peftrec.encoders import check_compilation, compiled_layers, tf32_products
from peftrec.models import RecommenderModel
from peftrec.training.config import TrainingConfig

logger = logging.getLogger(__name__)

# Of x86 and of ARM, as torch calls them.
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
# The first GPUs with TF32 are of compute capability 8.
_TF32_CAPABILITY = 8


class HasSettings(Protocol):
    """What a trainer has."""

    accelerator: Any
    model: RecommenderModel
    config: TrainingConfig


_Trainer = TypeVar("_Trainer", bound=HasSettings)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def check_device(training: TrainingConfig, device: torch.device) -> None:
    """See that a device has the precisions that are asked for; a CPU that only imitates one is warned of.

    Raises:
        InputError: naming the setting that it lacks.
    """
    if training.mixed_precision == "bf16":
        if not _has_bf16(device):
            raise InputError(
                f"training.mixed_precision is bf16, but the device '{device}' does not compute in bfloat16; use no"
            )
        if device.type == "cpu" and _imitates_bf16():
            logger.warning(
                "training.mixed_precision is bf16, but this CPU has no instructions for it (AVX512-BF16, AMX; BF16 on "
                "ARM): training takes several times as long as with no"
            )
    if training.tf32:
        if device.type != "cuda":
            raise InputError(f"training.tf32 is true, but training runs on '{device}', and TF32 is of GPUs; use false")
        if torch.cuda.get_device_capability(device)[0] < _TF32_CAPABILITY:
            raise InputError(
                f"training.tf32 is true, but {torch.cuda.get_device_name(device)} has no TF32 (Ampere and newer have "
                f"it); use false"
            )


def with_encoder_settings(
    train: Callable[Concatenate[_Trainer, _P], _R],
) -> Callable[Concatenate[_Trainer, _P], _R]:
    """Let a trainer's text encoders train in its precision, and compiled, inside this method."""

    @functools.wraps(train)
    def run(trainer: _Trainer, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        encoders = list(trainer.model.text_encoders().values())
        with contextlib.ExitStack() as settings:
            if trainer.config.compile:
                check_compilation(encoders, trainer.model.device)
                settings.enter_context(compiled_layers(encoders))
            if trainer.config.mixed_precision == "bf16":
                for encoder in encoders:
                    encoder.training_dtype = torch.bfloat16
                    settings.callback(setattr, encoder, "training_dtype", None)
            return train(trainer, *args, **kwargs)

    return run


def with_tf32(train: Callable[Concatenate[_Trainer, _P], _R]) -> Callable[Concatenate[_Trainer, _P], _R]:
    """Let matrix products inside this method of a trainer round their inputs to TF32, or not, as it is set.

    Evaluation stands outside: what is compared and stored is in full precision.
    """

    @functools.wraps(train)
    def run(trainer: _Trainer, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not _is_gpu(trainer.accelerator.device):
            return train(trainer, *args, **kwargs)
        with tf32_products(trainer.config.tf32):
            return train(trainer, *args, **kwargs)

    return run


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _has_bf16(device: torch.device) -> bool:
    """Whether a small product in bfloat16 comes out right there, by hardware where there is a choice."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            ones = torch.ones(8, 8, device=device)
            return bool(((ones @ ones) == 8).all())
    except RuntimeError:
        return False


def _imitates_bf16() -> bool:
    """Whether torch knows the instructions of this CPU, and none of them is for bfloat16."""
    known = getattr(torch.cpu, "get_capabilities", None)
    return known is not None and not any(known().get(name, False) for name in _BF16_INSTRUCTIONS)
