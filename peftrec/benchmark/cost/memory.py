"""Memory of a training above what imports, data and weights take."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from peftrec.benchmark.speed.memory_peak import ResidentMemory

_MIB: Final = 2**20


class TrainingMemory:
    """The baseline before training, and the peak above it: of the process, or of what is allocated on a GPU.

    Make one when data are loaded and everything is imported, and the model is not there yet.
    """

    def __init__(self) -> None:
        self._resident = ResidentMemory()
        self._resident.reset()
        self._before = self._resident.now_mib()
        self._weights = self._baseline = self._peak = 0.0
        self._on_gpu = torch.cuda.is_available()

    def begin(self, model: nn.Module) -> None:
        """Take the baseline: the model is there, and its first step begins."""
        self._weights = sum(parameter.nbytes for parameter in model.parameters()) / _MIB
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._baseline = torch.cuda.memory_allocated() / _MIB
            return
        self._resident.reset()
        self._baseline = self._before + self._weights

    def end(self) -> None:
        """Take the peak."""
        self._peak = torch.cuda.max_memory_allocated() / _MIB if self._on_gpu else self._resident.peak_mib()

    def to_json(self) -> dict[str, Any]:
        """Return MiB: `baseline`, `weights` of all parameters, `training` above the baseline; and the `kind`."""
        return {
            "baseline": round(self._baseline, 2),
            "weights": round(self._weights, 2),
            "training": round(max(0.0, self._peak - self._baseline), 2),
            "kind": "cuda_allocated" if self._on_gpu else "rss",
        }
