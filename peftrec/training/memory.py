"""How much memory the process has taken at most."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory_mib() -> float:
    """Return the peak of resident memory since the process began (of allocated memory, on a GPU), in MiB."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
