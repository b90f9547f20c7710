"""Which AdamW: that of torch, or of bitsandbytes with moments of 8 bits or in memory that a GPU may page out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch

from peftrec.config import InputError

OptimizerKind = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]

# Of bitsandbytes; by name, as it is imported only where it is used.
_CLASSES = {"adamw_8bit": "AdamW8bit", "paged_adamw": "PagedAdamW", "paged_adamw_8bit": "PagedAdamW8bit"}
# Smaller tensors keep moments of 32 bits.
_SMALLEST_8BIT = 4096


def optimizer_class(kind: OptimizerKind, device: torch.device) -> Callable[..., torch.optim.Optimizer]:
    """Return the class of an AdamW, which is handed parameter groups.

    Args:
        kind: the 8-bit ones keep both moments of tensors of 4,096 numbers or more in a byte each, with a scale for
            every 256; the paged ones let the moments leave the GPU when it is full. On a CPU there is nothing to page.
        device: of the parameters.
    Raises:
        InputError: if bitsandbytes is missing or cannot make such a step on this device.
    """
    if kind == "adamw":
        # One pass over each parameter and its moments instead of several.
        return functools.partial(torch.optim.AdamW, fused=device.type in ("cpu", "cuda"))
    try:
        import bitsandbytes
    except ImportError:
        raise InputError(
            f"optimizer.kind is {kind}, which needs bitsandbytes; pip install 'peftrec[quantization]'"
        ) from None
    made: Callable[..., torch.optim.Optimizer] = getattr(bitsandbytes.optim, _CLASSES[kind])
    try:
        _try_step(made, device)
    except Exception as error:
        raise InputError(
            f"optimizer.kind: bitsandbytes {bitsandbytes.__version__} cannot make a step of {kind} on the device "
            f"'{device.type}' ({next(iter(str(error).splitlines()), type(error).__name__)}); use adamw"
        ) from error
    return made


@functools.cache
def _try_step(made: Callable[..., torch.optim.Optimizer], device: torch.device) -> None:
    parameter = torch.nn.Parameter(torch.zeros(_SMALLEST_8BIT, device=device))
    parameter.grad = torch.ones_like(parameter)
    made([parameter], lr=1e-3).step()
    if not bool((parameter < 0).all()):
        raise RuntimeError("a step against a positive gradient did not lower the parameter")


def flat_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state of every parameter as tensors named `<place of the parameter>.<name>`.

    What is a plain number, such as the step count of bitsandbytes, becomes an integer tensor without axes.
    """
    tensors = {}
    for place, entries in optimizer.state_dict()["state"].items():
        for name, value in _unwrapped(entries).items():
            tensors[f"{place}.{name}"] = torch.as_tensor(value).detach().clone().contiguous()
    return tensors


def nested_state(tensors: dict[str, torch.Tensor]) -> dict[int, dict[str, Any]]:
    """Return what `flat_state` flattened, as `load_state_dict` takes it.

    bitsandbytes turns tensors that are not of its own names into the parameter's type: a step count that were a tensor
    would come back as float32, and powers of it would be rounded.
    """
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        place, _, name = key.partition(".")
        plain = tensor.ndim == 0 and not tensor.is_floating_point()
        state.setdefault(int(place), {})[name] = tensor.item() if plain else tensor
    return state


def _unwrapped(entries: dict[str, Any]) -> dict[str, Any]:
    """Lift the mapping into which bitsandbytes puts what FSDP must not see."""
    flat: dict[str, Any] = {}
    for name, value in entries.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat
