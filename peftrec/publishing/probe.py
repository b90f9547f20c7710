"""Probes: a few vectors and scores that a loaded folder must give again.

Shapes: Q probe items, H width of text vectors, D width of item vectors, L places of the probe history.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from peftrec.config import InputError
from peftrec.models import RecommenderModel
from peftrec.publishing.manifest import MANIFEST
from peftrec.publishing.run_folder import VECTORS
from peftrec.publishing.tensor_file import read_tensors

PROBES = "probes.safetensors"
_NUM_PROBES = 8
# Another machine may round otherwise; a missing or foreign adapter is off by 1e-2 and more. Layers that compute in
# bfloat16 round to 2**-9 each time, so that there the checksums say more than the probes.
_TOLERANCE = 1e-4
_TOLERANCE_BFLOAT16 = 5e-2
# Events of the probe history lie so far apart and ever farther, so that many buckets of time have a part.
_FIRST_GAP_MS = 1000


@torch.no_grad()
def take_probes(model: RecommenderModel, num_items: int) -> dict[str, torch.Tensor]:
    """Return text vectors and item vectors of items spread over the catalogue, and scores for them as a history.

    Where users have attributes, also what those of a few who are made up add.

    Args:
        model: with its catalogue's texts.
        num_items: size of the catalogue.
    """
    model.eval()
    items_Q = torch.linspace(0, num_items - 1, min(_NUM_PROBES, num_items)).long().unique()  # type: ignore[no-untyped-call]
    probes = {"items": items_Q}
    text_QH = None
    if model.catalogue_text is not None:
        text_QH = model.catalogue_text.encoder.encode(model.catalogue_text.tokenized, items_Q)
        probes["text_vectors"] = text_QH
    items_Q = items_Q.to(model.device)
    vectors_QD = model.item_vectors(text_QH, items_Q)
    probes["item_vectors"] = vectors_QD
    if model.user_attributes is not None:
        probes["user_attributes"] = model.user_attributes.probe()
    bias_Q = model.item_encoder.candidate_bias(items_Q)
    history_1L = torch.arange(min(len(items_Q), model.max_history), device=model.device)[None]
    probes["scores"] = model.scores(
        history_1L,
        vectors_QD,
        vectors_QD.new_zeros(len(items_Q)) if bias_Q is None else bias_Q,
        times_BL=_FIRST_GAP_MS * 16 ** np.arange(history_1L.shape[1])[None],
        items_N=items_Q,
    )
    return {name: tensor.cpu().contiguous() for name, tensor in probes.items()}


def write_probes(folder: Path, probes: dict[str, torch.Tensor]) -> None:
    """Write `probes.safetensors`."""
    save_file(probes, folder / PROBES)


def check_probes(folder: Path, model: RecommenderModel, num_items: int) -> None:
    """Compare a loaded model with the stored probes.

    Raises:
        InputError: if a vector or a score differs; the folder then is not what was trained.
    """
    stored, found = read_tensors(folder / PROBES), take_probes(model, num_items)
    if stored.keys() != found.keys():
        raise InputError(f"{folder / PROBES}: holds {sorted(stored)}, expected {sorted(found)}")
    tolerance = _tolerance(model)
    for name, expected in stored.items():
        actual = found[name]
        if expected.shape != actual.shape:
            raise InputError(f"{folder / PROBES}: {name} has shape {tuple(expected.shape)}, not {tuple(actual.shape)}")
        if expected.dtype != actual.dtype:
            raise InputError(f"{folder / PROBES}: {name} is {expected.dtype}, not {actual.dtype}")
        gap = _gap(expected, actual)
        if not gap <= tolerance * _size(expected):
            raise InputError(
                f"{folder}: the loaded model does not give the {name.replace('_', ' ')} that were stored when it was "
                f"trained (largest difference {gap:.3g}); backbone or adapter is not the one of this run"
            )


def check_stored_vectors(folder: Path, model: RecommenderModel, vectors_ND: torch.Tensor) -> None:
    """See that stored item vectors are of this run: those of the probe items must be their probes.

    Args:
        folder: whose probes the model has met.
        model: loaded from it.
        vectors_ND: as stored, one for each item.
    Raises:
        InputError: if they are not.
    """
    probes = read_tensors(folder / PROBES)
    expected = probes["item_vectors"]
    found = vectors_ND[probes["items"]]
    if found.shape != expected.shape:
        raise InputError(
            f"{folder / VECTORS}: 'vectors' has shape {tuple(vectors_ND.shape)}, and this model's have "
            f"{expected.shape[1]} columns"
        )
    gap = _gap(expected, found)
    if not gap <= _tolerance(model) * _size(expected):
        raise InputError(
            f"{folder / VECTORS}: 'vectors' holds others than this model gives (largest difference {gap:.3g}); remove "
            f"the file and its entry in {MANIFEST}, and the items are encoded anew"
        )


def _tolerance(model: RecommenderModel) -> float:
    rounded = any(encoder.backbone.dtype == torch.bfloat16 for encoder in model.text_encoders().values())
    return _TOLERANCE_BFLOAT16 if rounded else _TOLERANCE


def _gap(expected: torch.Tensor, found: torch.Tensor) -> float:
    return float((found.double() - expected.double()).abs().max())


def _size(expected: torch.Tensor) -> float:
    return max(1e-6, float(expected.double().abs().max()))
