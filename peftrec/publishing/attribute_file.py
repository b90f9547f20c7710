"""The attribute files of a run folder: columns as training has seen them, and the items by them.

Of users nothing is stored but statistics and the values that enough of them share.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from peftrec.config import InputError
from peftrec.data import AttributeFeatures, DataConfig, FittedAttributes
from peftrec.models import RecommenderModel
from peftrec.publishing.json_file import read_json
from peftrec.publishing.tensor_file import read_tensors

ATTRIBUTES, ITEM_ATTRIBUTES = "attributes.json", "item_attributes.safetensors"


def attribute_files(data: DataConfig) -> tuple[str, ...]:
    """Return the files that a run of these data must have."""
    columns = () if data.item_attributes is None and data.user_attributes is None else (ATTRIBUTES,)
    return columns if data.item_attributes is None else (*columns, ITEM_ATTRIBUTES)


def write_attributes(folder: Path, model: RecommenderModel) -> None:
    """Write `attributes.json` and `item_attributes.safetensors`, where the model reads attributes."""
    parts = {"items": model.item_encoder.attributes, "users": model.user_attributes}
    content = {subject: part.fitted.to_json() for subject, part in parts.items() if part is not None}
    if content:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / ATTRIBUTES).write_text(text + "\n", encoding="utf-8")
    if model.item_encoder.attributes is not None:
        features = model.item_encoder.attributes.rows
        codes = {f"codes.{place}": torch.from_numpy(codes) for place, codes in enumerate(features.codes)}
        known, numbers = torch.from_numpy(features.known), torch.from_numpy(features.numbers)
        tensors = {"known": known, "numbers": numbers, **codes}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / ITEM_ATTRIBUTES)


def read_attributes(folder: Path, data: DataConfig) -> dict[str, FittedAttributes]:
    """Read the columns of `items` and `users`, those of the two that have attributes.

    Raises:
        InputError: if the file does not hold the columns of the recipe.
    """
    wanted = {"items": data.item_attributes, "users": data.user_attributes}
    configs = {subject: columns for subject, columns in wanted.items() if columns is not None}
    if not configs:
        return {}
    path = folder / ATTRIBUTES
    try:
        content = read_json(path)
        return {subject: FittedAttributes.from_json(columns, content[subject]) for subject, columns in configs.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError) and str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: does not hold what the recipe's attributes need ({error})") from None


def set_item_attributes(folder: Path, model: RecommenderModel, num_items: int) -> None:
    """Tell a model of the attributes of its catalogue, where it reads any.

    Raises:
        InputError: if the file is not of this catalogue and these columns.
    """
    part = model.item_encoder.attributes
    if part is None:
        return
    path = folder / ITEM_ATTRIBUTES
    try:
        tensors = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
        codes = tuple(tensors[f"codes.{place}"] for place in range(len(part.fitted.vocabulary_sizes)))
        features = AttributeFeatures(tensors["known"], tensors["numbers"], codes)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    fits = {tensor.shape[:1] for tensor in tensors.values()} == {(num_items,)} and features.known.shape == (num_items,)
    fits &= features.known.dtype == np.dtype(np.bool_) and features.numbers.dtype == np.dtype(np.float32)
    fits &= features.numbers.shape[1:] == (part.fitted.num_numbers,)
    fits &= all(_are_codes(found, size) for found, size in zip(codes, part.fitted.vocabulary_sizes, strict=True))
    if not fits:
        raise InputError(f"{path}: does not hold the columns of {ATTRIBUTES} for each of the {num_items:,} items")
    part.set_rows(features)


def _are_codes(codes_NM: NDArray[Any], size: int) -> bool:
    if codes_NM.dtype != np.dtype(np.int64) or codes_NM.ndim != 2:
        return False
    return codes_NM.size == 0 or -1 <= int(codes_NM.min()) <= int(codes_NM.max()) < size
