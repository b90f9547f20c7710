"""Tensor files of a run folder: read whole, with nothing in them that is not a finite number."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from peftrec.config import InputError

# Of others torch cannot always say whether they are finite, and no run stores them.
_FLOATS: Final = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: if it is missing or damaged, or holds a number that is NaN or infinite, or a type that no run has.
    """
    try:
        tensors = dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"{path}: is missing from the run folder") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() and tensor.dtype not in _FLOATS) or tensor.is_complex():
            raise InputError(f"{path}: '{name}' is {tensor.dtype}, a type that no run stores")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(f"{path}: '{name}' holds numbers that are NaN or infinite")
    return tensors
