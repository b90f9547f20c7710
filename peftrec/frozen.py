"""What the frozen backbone gives a catalogue: vectors for the references, and the cache filled ahead of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from peftrec.build import Built, Report, recipe_backbone
from peftrec.config import InputError, RecipeError
from peftrec.data import load_dataset
from peftrec.encoders import CatalogueText, Progress, TextCache, TextEncoder, refused_kind, why_refused
from peftrec.methods import METHODS
from peftrec.recipe import Recipe


def fill_cache(recipe: Recipe, report: Report, progress: Progress | None = None) -> None:
    """Compute and keep what a run of a recipe takes from the cache, so that it need not.

    Args:
        recipe: resolved.
        report: is handed a line at a time.
        progress: is handed label, tokens done and tokens in all, after every chunk.
    Raises:
        RecipeError: if the recipe reads no texts, or keeps nothing.
        InputError: if states of the backbone's kind are not stored; if the folder cannot be written, or is too small.
    """
    if not recipe.encoder.uses_text and recipe.baseline is None:
        raise RecipeError("encoder.inputs: is ids, which reads no text; there is nothing to keep")
    if recipe.encoder.cache.folder is None:
        raise RecipeError("encoder.cache.folder: is null, which keeps nothing; name a folder")
    texts = load_dataset(recipe.data).catalogue.texts
    mean = recipe.encoder.quantization == "none"
    if recipe.baseline is None:
        backbone = recipe_backbone(recipe.encoder)
        cache = TextCache(recipe.encoder.cache, backbone, report, progress)
        encoder = TextEncoder(backbone, recipe.encoder, recipe.method)
        if refused_kind(encoder) is not None:
            raise InputError(f"encoder.backbone: {why_refused(encoder)}")
        catalogue = CatalogueText(encoder, texts, cache)
        catalogue.store_trunk()
        catalogue.base_vectors()
        if mean and encoder.pooling == "mean":
            return
    # The references read others than this recipe's model.
    frozen_vectors(recipe, texts, report, progress)


def published_vectors(built: Built, recipe: Recipe, report: Report | None = None) -> torch.Tensor:
    """Return what content_knn is defined on: mean-pooled vectors of the backbone as published, (N, H), on the CPU.

    Where its weights are cast to bfloat16, so they are for these: large backbones are published so.
    """
    text = built.model.catalogue_text
    if text is not None and text.encoder.backbone.quantization == "none":
        if built.base_vectors_NH is not None and text.encoder.pooling == "mean":
            return built.base_vectors_NH.cpu()
        stored_NH = None if text.cache is None else text.cache.stored_vectors("mean")
        if stored_NH is not None:
            return stored_NH
    return frozen_vectors(recipe, built.dataset.catalogue.texts, report)


def frozen_vectors(
    recipe: Recipe, texts: Sequence[str], report: Report | None = None, progress: Progress | None = None
) -> torch.Tensor:
    """Return mean-pooled vectors of texts from the backbone as published, shape (N, H), on the CPU.

    A quantised backbone is loaded in full precision for them: references are the same beside all runs.

    Args:
        recipe: names the backbone.
        texts: N texts.
        report: is handed a line on what the cache is read or written for; None leaves the cache alone.
        progress: as of `fill_cache`.
    """
    frozen = METHODS.load("frozen")()
    encoder = dataclasses.replace(recipe.encoder, pooling="mean", quantization="none")
    backbone = recipe_backbone(encoder)
    cache = None if report is None else TextCache(encoder.cache, backbone, report, progress)
    return CatalogueText(TextEncoder(backbone, encoder, frozen), texts, cache).base_vectors().cpu()
