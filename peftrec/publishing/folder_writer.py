"""Writing a run folder: everything needed to recommend, proven before it counts as saved.

Shapes: N items of the catalogue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import peftrec
from peftrec.baselines import FittedBaseline
from peftrec.build import build_model
from peftrec.config import InputError
from peftrec.data import Catalogue
from peftrec.models import RecommenderModel
from peftrec.publishing.attribute_file import write_attributes
from peftrec.publishing.card import write_card
from peftrec.publishing.environment import describe_environment
from peftrec.publishing.folder_reader import load_run, plain_recipe
from peftrec.publishing.item_table import read_items, write_items
from peftrec.publishing.manifest import Manifest, file_table
from peftrec.publishing.probe import PROBES, take_probes, write_probes
from peftrec.publishing.run_folder import (
    ADAPTER,
    ADAPTER_CONFIG,
    BASELINE,
    ENVIRONMENT,
    HEAD,
    IDS,
    ITEM_SCORES,
    METRICS,
    PLACES,
    RECIPE,
    VECTORS,
)
from peftrec.publishing.tensor_file import read_tensors
from peftrec.publishing.told import told_of_backbone, told_of_texts
from peftrec.recipe import Recipe, load_recipe


def save_model_run(
    folder: Path,
    *,
    recipe: Recipe,
    catalogue: Catalogue,
    train_counts: NDArray[np.int64],
    model: RecommenderModel,
    metrics: Mapping[str, Any],
    adapters_moved: Mapping[str, bool],
) -> None:
    """Write a trained model and prove it: a fresh object loaded from the folder must give the same vectors.

    Args:
        folder: exists; may hold `private/`, nothing else that has these names.
        recipe: resolved.
        catalogue: that the model was trained on.
        train_counts: training events of each item, shape (N,).
        model: trained.
        metrics: becomes `metrics.json`.
        adapters_moved: whether training changed the weights of each adapter; then its vectors must differ from the
            untrained ones.
    Raises:
        InputError: if what was written does not give back what was trained.
    """
    vectors_ND, bias_N = model.encode_catalogue()
    save_file(_ready(model.head_state()), folder / HEAD)
    if ids := model.id_state():
        save_file(_ready(ids), folder / IDS)
    counts = torch.from_numpy(train_counts)
    save_file(_ready({"vectors": vectors_ND}), folder / VECTORS)
    save_file(_ready({"bias": bias_N, "train_counts": counts}), folder / ITEM_SCORES)
    for start, encoder in model.text_encoders().items():
        config = encoder.method.adapter_config(encoder.backbone.base)
        if config is not None:
            place = folder / PLACES[start]
            place.mkdir(exist_ok=True)
            (place / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            save_file(_ready(encoder.method.published_tensors()), place / ADAPTER)
    write_attributes(folder, model)
    write_probes(folder, take_probes(model, len(catalogue)))
    finish_folder(folder, recipe, catalogue, metrics, model)
    _prove(folder, adapters_moved)


def save_baseline_run(
    folder: Path,
    *,
    recipe: Recipe,
    catalogue: Catalogue,
    train_counts: NDArray[np.int64],
    baseline: FittedBaseline,
    metrics: Mapping[str, Any],
) -> None:
    """Write a fitted baseline in the layout of every run; arguments as in `save_model_run`."""
    save_file(_ready(baseline.tensors()), folder / BASELINE)
    save_file({"train_counts": torch.from_numpy(train_counts)}, folder / ITEM_SCORES)
    finish_folder(folder, recipe, catalogue, metrics, None)
    load_run(folder)


def _prove(folder: Path, adapters_moved: Mapping[str, bool]) -> None:
    """Load the folder into a fresh object, compare the probes, and see that moved adapters change vectors."""
    model = load_run(folder).model
    assert model is not None
    if not any(adapters_moved.values()):
        return
    items = read_tensors(folder / PROBES)["items"]
    fresh = build_model(load_recipe(folder / RECIPE), read_items(folder).texts, torch.zeros(0))
    for start in model.text_encoders():
        if not adapters_moved[start]:
            continue
        # Nothing but the adapter shall tell the two apart.
        fresh.text_encoders()[start].token_attention = model.text_encoders()[start].token_attention
        found = [_probe_texts(one, start, items) for one in (model, fresh)]
        if torch.equal(*found):
            raise InputError(
                f"{folder}: training moved the {start.replace('_', ' ')}, yet its vectors equal the untrained ones; "
                f"not saved"
            )


@torch.no_grad()
def _probe_texts(model: RecommenderModel, start: str, items: torch.Tensor) -> torch.Tensor:
    """Return vectors of the probe items' texts, or of the text of a user who has had them."""
    assert model.catalogue_text is not None
    if start == "adapter":
        return model.catalogue_text.encoder.encode(model.catalogue_text.tokenized, items)
    assert model.profiles is not None
    return model.profiles.vectors(model.profiles.plan(items[None].numpy(), None, None)).vectors_RH


def finish_folder(
    folder: Path, recipe: Recipe, catalogue: Catalogue, metrics: Mapping[str, Any], model: RecommenderModel | None
) -> None:
    """Write what every run has, and last the list of all files with their checksums."""
    write_items(folder, catalogue)
    (folder / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
    for name, content in ((METRICS, metrics), (ENVIRONMENT, describe_environment())):
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    encoder = None if model is None else model.text_encoder
    settings = told_of_texts(recipe, encoder)
    write_card(folder, recipe, metrics, len(catalogue), text=settings)
    Manifest(
        peftrec_version=peftrec.__version__,
        backbone=told_of_backbone(encoder),
        text=settings,
        files=file_table(folder),
        recipe=plain_recipe(folder / RECIPE),
        num_items=len(catalogue),
    ).write(folder)


def _ready(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
