"""Whether backbone, method and settings fit together, told before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders.backbone import Backbone
from peftrec.encoders.config import EncoderConfig
from peftrec.methods import MethodConfig


def check_method(backbone: Backbone, config: EncoderConfig, method: MethodConfig, limit: int | None) -> None:
    """See that a method can work on a backbone with the settings of a recipe.

    Args:
        backbone: without the method.
        config: the `encoder` section.
        method: that will be put into it.
        limit: tokens that the backbone's positions reach for; None for any number.
    Raises:
        InputError: naming the key and what would be right.
    """
    if limit is not None and config.max_tokens > limit:
        raise InputError(f"encoder.max_tokens is {config.max_tokens}, but {backbone.base.name} has {limit} positions")
    able = method.declared()
    if not (able.decoder if backbone.causal else able.encoder):
        kind = "a decoder" if backbone.causal else "an encoder"
        raise InputError(f"method.kind: '{method.kind}' does not work on {backbone.base.name}, which is {kind}")
    if method.layers != "all" and not able.can_limit_layers:
        raise InputError(f"method.layers: '{method.kind}' acts on all layers or none; use all")
    if backbone.quantization != "none" and not able.quantized_base:
        raise InputError(
            f"method.kind: '{method.kind}' with these settings does not work on quantised weights "
            f"(encoder.quantization is {backbone.quantization}); use encoder.quantization=none"
        )


def check_positions(name: str, num_tokens: int, config: EncoderConfig, limit: int | None) -> None:
    """See that there are positions left for what a method puts before the text."""
    if limit is not None and num_tokens + config.max_tokens > limit:
        raise InputError(
            f"method.num_tokens is {num_tokens}: with encoder.max_tokens={config.max_tokens} that is more than the "
            f"{limit} positions of {name}; use at most {max(0, limit - config.max_tokens)}"
        )


def check_float32(method: MethodConfig, parameters: Mapping[str, nn.Parameter]) -> None:
    """See that what trains is float32: steps smaller than the spacing of bfloat16 would be lost."""
    for name, parameter in parameters.items():
        if parameter.dtype != torch.float32:
            raise InputError(
                f"method.kind: '{method.kind}' trains weights of the backbone itself ('{name}'), which "
                f"encoder.dtype: bfloat16 rounds; use encoder.dtype=float32 (training.mixed_precision=bf16 "
                f"computes in bfloat16 all the same)"
            )


def enable_checkpointing(model: Any, name: str, method: MethodConfig) -> None:
    """Let the layers of a model compute their inner states again in the backward pass.

    Raises:
        InputError: if the method or the model does not support it.
    """
    if not method.declared().supports_checkpointing:
        raise InputError(f"encoder.gradient_checkpointing: '{method.kind}' does not work with it; leave it off")
    # transformers is renaming it.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InputError(f"encoder.gradient_checkpointing: {name} does not support it ({error})") from None
