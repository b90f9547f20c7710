"""Backbones whose linear layers hold quantised weights, by bitsandbytes.

Only linear modules inside transformer layers are quantised; embeddings, norms, biases and what stands outside of the
layers stay as published.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Literal

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.methods import find_layers

Quantization = Literal["none", "int8", "nf4", "fp4"]


def default_device() -> torch.device:
    """Return where backbones are loaded to: the current GPU where there is one."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


@functools.cache
def check_quantization(quantization: Quantization, device: torch.device) -> None:
    """See that a kind works on a device, by a linear layer of 64 x 64, before anything large is loaded.

    Raises:
        InputError: if bitsandbytes is missing, or has no kernel for the kind on this device.
    """
    try:
        import bitsandbytes
    except ImportError:
        raise InputError(
            f"encoder.quantization is {quantization}, which needs bitsandbytes; pip install 'peftrec[quantization]'"
        ) from None
    try:
        # The layer draws its weights at random; what is drawn after must not depend on this check.
        with torch.random.fork_rng(devices=[]):
            layer = _tiny_linear(quantization, device)
        inputs = torch.ones(2, 64, device=device, requires_grad=True)
        layer(inputs).sum().backward()
        works = inputs.grad is not None and bool(inputs.grad.isfinite().all())
        reason = "its gradient is not finite"
    except Exception as error:
        works, reason = False, next(iter(str(error).splitlines()), type(error).__name__)
    if not works:
        raise InputError(
            f"encoder.quantization: bitsandbytes {bitsandbytes.__version__} has no working {quantization} kernel for "
            f"the device '{device.type}' ({reason}); use another kind, or none"
        )


def loading_arguments(quantization: Quantization, model: nn.Module, device: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` takes to quantise the layers of a backbone while it loads them.

    Args:
        quantization: not `none`.
        model: the backbone on the meta device, from which names are taken.
        device: where the weights go.
    """
    from transformers import BitsAndBytesConfig

    inside = find_layers(model).name + "."
    # Regular expressions of whole names: transformers takes a bare name for the ending of others, too.
    outside = [f"^{re.escape(name)}$" for name, _ in model.named_modules() if name and not name.startswith(inside)]
    if quantization == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=outside)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization,
            bnb_4bit_compute_dtype=_compute_dtype(device),
            bnb_4bit_use_double_quant=True,
            llm_int8_skip_modules=outside,
        )
    return {"quantization_config": config, "device_map": {"": device}}


def settle_quantized(name: str, model: nn.Module) -> None:
    """Let a quantised backbone give a text the same vector whatever else is in the chunk, with gradients or without.

    Raises:
        InputError: if nothing of the backbone could be quantised.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    quantized = [module for module in model.modules() if isinstance(module, Linear4bit | Linear8bitLt)]
    if not quantized:
        raise InputError(f"encoder.quantization: the layers of '{name}' hold no linear module that can be quantised")
    for module in quantized:
        if isinstance(module, Linear8bitLt):
            module.register_forward_pre_hook(_round_weights_only)
        elif hasattr(module, "support_avx512bf16_for_cpu"):
            # Where gradients are off, it would repack the weights and round inputs to bfloat16 on some CPUs.
            module.support_avx512bf16_for_cpu = False


def quantized_states(model: nn.Module, quantization: Quantization) -> list[object]:
    """Return what 8-bit layers keep beside their parameters, which who shares those must share as well.

    At the first forward pass weights and scales move there from the parameter. A module that has the parameter alone
    would then take its bytes for weights, and round them once more.
    """
    if quantization != "int8":
        return []
    from bitsandbytes.nn import Linear8bitLt

    return [module.state for module in model.modules() if isinstance(module, Linear8bitLt)]


def _round_weights_only(module: nn.Module, _: Any) -> None:
    """Choose the product of an 8-bit layer in which inputs are not rounded.

    In eval mode bitsandbytes rounds the inputs too, so that vectors of MiniLM move by 3 % with the padding around them;
    in training mode it does not where it runs on a CPU, and is faster there. The layer has nothing else that depends on
    the mode.
    """
    module.training = True


def _compute_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def _tiny_linear(quantization: Quantization, device: torch.device) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    layer: nn.Module
    if quantization == "int8":
        layer = Linear8bitLt(64, 64, has_fp16_weights=False, threshold=6.0)
    else:
        layer = Linear4bit(64, 64, compute_dtype=_compute_dtype(device), quant_type=quantization)
    return layer.to(device)
