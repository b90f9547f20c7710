"""Memory of a training above what imports, data and weights take."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from typing import Any, Final

import torch
from torch import nn

from peftrec.benchmark.speed.memory_peak import ResidentMemory

_MIB: Final = 2**20
_SAMPLE_SECONDS: Final = 0.002


class TrainingMemory:
    """The baseline before training, and the peak above it: of the process, or of what is allocated on a GPU.

    Where the system does not forget the peak of a process, a thread looks at what is resident every 2 ms instead. Where
    it does not tell that either, as on macOS, baseline and training are None.

    Make one when data are loaded and everything is imported, and the model is not there yet.
    """

    def __init__(self) -> None:
        _give_back()
        self._resident = ResidentMemory()
        self._resident.reset()
        self._before = self._resident.now_mib()
        self._weights = self._baseline = self._peak = 0.0
        self._on_gpu = torch.cuda.is_available()
        self._sampler: _Sampler | None = None

    def begin(self, model: nn.Module) -> None:
        """Take the baseline: the model is there, and its first step begins."""
        self._weights = sum(parameter.nbytes for parameter in model.parameters()) / _MIB
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._baseline = torch.cuda.memory_allocated() / _MIB
            return
        self._baseline = self._before + self._weights
        if not self._resident.reset() and self._resident.tells_now:
            self._sampler = _Sampler(self._resident)

    def end(self) -> None:
        """Take the peak."""
        if self._on_gpu:
            self._peak = torch.cuda.max_memory_allocated() / _MIB
        else:
            self._peak = self._resident.peak_mib() if self._sampler is None else self._sampler.stop()

    def to_json(self) -> dict[str, Any]:
        """Return MiB: `baseline`, `weights` of all parameters, `training` above the baseline; and the `kind`."""
        known = self._on_gpu or self._resident.tells_now
        return {
            "baseline": round(self._baseline, 2) if known else None,
            "weights": round(self._weights, 2),
            "training": round(max(0.0, self._peak - self._baseline), 2) if known else None,
            "kind": "cuda_allocated" if self._on_gpu else "rss",
        }


def _give_back() -> None:
    """Give memory that was freed back to the system: what preparing held would hide what training takes there."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only the C library of GNU has it
        ctypes.CDLL(None).malloc_trim(0)


class _Sampler:
    """A thread that keeps the most that was resident until `stop`."""

    def __init__(self, resident: ResidentMemory) -> None:
        self._resident, self._peak = resident, resident.now_mib()
        self._stopped = threading.Event()
        # A daemon: a training that fails never comes to `stop`, and must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="peftrec-memory", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the thread and return the peak in MiB."""
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _run(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, self._resident.now_mib())
