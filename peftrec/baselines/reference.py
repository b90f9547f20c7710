"""The baselines that stand beside every result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from peftrec.baselines.baseline import BASELINES, FittedBaseline
from peftrec.config import InputError

if TYPE_CHECKING:
    from peftrec.data import Dataset

REFERENCES = ("popularity", "content_knn")


def fit_references(
    dataset: Dataset, vectors: Callable[[], torch.Tensor], store: Path | None = None
) -> dict[str, FittedBaseline]:
    """Fit `REFERENCES` with their defaults, or take the fits that are stored.

    Args:
        dataset: to fit on.
        vectors: gives raw mean-pooled vectors of the catalogue, shape (N, H); called only where they are needed.
        store: folder of fits of the very same data and backbone, from `store_references`; what is missing or cannot be
            read is fitted anew.
    Returns:
        The fitted baselines by kind.
    """
    fitted: dict[str, FittedBaseline] = {}
    for kind in REFERENCES:
        config = BASELINES.load(kind)()
        path = None if store is None else store / f"{kind}.safetensors"
        if path is not None and path.is_file():
            with contextlib.suppress(SafetensorError, InputError):
                fitted[kind] = config.from_tensors(load_file(path))
                continue
        fitted[kind] = config.fit(dataset, vectors() if config.needs_item_vectors else None)
    return fitted


def store_references(fitted: dict[str, FittedBaseline], store: Path) -> None:
    """Write fits for `fit_references` to find again.

    Args:
        fitted: by kind.
        store: folder, made where it is missing.
    """
    store.mkdir(parents=True, exist_ok=True)
    for kind, baseline in fitted.items():
        save_file(baseline.tensors(), store / f"{kind}.safetensors")
