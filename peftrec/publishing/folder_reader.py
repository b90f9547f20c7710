"""Reading a run folder: nothing is used before it has been compared with the manifest, and with what it must fit.

Shapes: N items of the catalogue, D width of item vectors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from peftrec.baselines import Baseline, FittedBaseline
from peftrec.build import build_model
from peftrec.config import InputError, RecipeError, read_yaml
from peftrec.data import Catalogue
from peftrec.methods import read_adapter_tensors
from peftrec.models import RecommenderModel
from peftrec.publishing.attribute_file import attribute_files, read_attributes, set_item_attributes
from peftrec.publishing.item_table import ITEMS, read_items
from peftrec.publishing.manifest import MANIFEST, Manifest, read_manifest, require_listed
from peftrec.publishing.probe import PROBES, check_probes, check_stored_vectors
from peftrec.publishing.run_folder import (
    ADAPTER,
    ADAPTER_CONFIG,
    BASELINE,
    ENSEMBLE,
    HEAD,
    IDS,
    ITEM_SCORES,
    PLACES,
    RECIPE,
    VECTORS,
    Run,
)
from peftrec.publishing.tensor_file import read_tensors
from peftrec.publishing.told import check_told
from peftrec.recipe import Recipe, load_recipe

logger = logging.getLogger(__name__)
_MOST_RECIPE_BYTES: Final = 2**20


class OtherBackboneError(InputError):
    """The backbone that was found is not the one that a run was trained on.

    Args:
        folder: of the run.
        recipe: of the run.
        found: fingerprint of what was found.
        expected: that of the run.
    """

    def __init__(self, folder: Path, recipe: Recipe, found: str, expected: str) -> None:
        super().__init__(
            f"{folder}: was trained on {recipe.encoder.backbone} (fingerprint {expected[:12]}), but the backbone found "
            f"here has {found[:12]}; use the same weights (encoder.revision pins them)"
            + " on the same kind of device"
            * (recipe.encoder.quantization != "none")
        )
        self.found, self.expected = found, expected


def load_run(folder: str | Path, *, verify: bool = True) -> Run:
    """Load a run folder.

    Args:
        folder: written by `save_model_run`, `save_baseline_run` or `save_ensemble_run`.
        verify: also compare the backbone and the stored probes; checksums are always compared.
    Raises:
        InputError: if a file is missing, truncated or edited, the backbone is another one, the adapter does not fit, or
            the probes differ.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    require_listed(folder, manifest, (RECIPE, ITEMS))
    recipe = _recipe(folder, manifest)
    catalogue = read_items(folder)
    if manifest.num_items not in (None, len(catalogue)):
        raise InputError(f"{folder / ITEMS}: has {len(catalogue):,} items, where {MANIFEST} has {manifest.num_items:,}")
    tensors = _of_items(folder, manifest, recipe, len(catalogue))
    if ENSEMBLE in manifest.files:
        from peftrec.publishing.ensemble_folder import load_ensemble  # which loads its members here

        return load_ensemble(folder, recipe, catalogue, tensors["train_counts"], manifest, verify=verify)
    if recipe.baseline is not None:
        require_listed(folder, manifest, (BASELINE,))
        fitted = _baseline(folder, recipe.baseline, len(catalogue))
        check_told(folder, manifest, recipe, None)
        return Run(folder, recipe, catalogue, tensors["train_counts"], None, fitted, None, None)
    model = _load_model(folder, recipe, catalogue, manifest)
    if verify:
        check_probes(folder, model, len(catalogue))
        if "vectors" in tensors:
            check_stored_vectors(folder, model, tensors["vectors"])
    check_told(folder, manifest, recipe, model.text_encoder)
    vectors_ND = _vectors(folder, manifest, model, tensors.get("vectors"))
    return Run(
        folder, recipe, catalogue, tensors["train_counts"], model, None, vectors_ND, tensors["bias"].to(vectors_ND)
    )


def _load_model(folder: Path, recipe: Recipe, catalogue: Catalogue, manifest: Manifest) -> RecommenderModel:
    ids = (IDS,) if recipe.encoder.uses_ids else ()
    require_listed(folder, manifest, (HEAD, PROBES, *ids, *attribute_files(recipe.data)))
    own = read_tensors(folder / HEAD) | (read_tensors(folder / IDS) if recipe.encoder.uses_ids else {})
    has_id = own.get("item_encoder.has_id", torch.zeros(len(catalogue), dtype=torch.bool))
    attributes = read_attributes(folder, recipe.data)
    model = build_model(recipe.here(), catalogue.texts, has_id, attributes)
    trained = (manifest.backbone or {}).get("revision")
    if isinstance(trained, str) and recipe.encoder.revision is None and not _is_on(model, manifest):
        # The model that the Hub has under this name is another one by now; the commit is still there.
        pinned = dataclasses.replace(recipe, encoder=dataclasses.replace(recipe.encoder, revision=trained))
        model = build_model(pinned.here(), catalogue.texts, has_id, attributes)
    set_item_attributes(folder, model, len(catalogue))
    if not _is_on(model, manifest):
        assert model.text_encoder is not None
        expected = str((manifest.backbone or {}).get("fingerprint"))
        raise OtherBackboneError(folder, recipe, model.text_encoder.backbone.fingerprint, expected)
    for start, encoder in model.text_encoders().items():
        if encoder.method.state_dict():
            place = PLACES[start]
            require_listed(folder, manifest, (f"{place}{ADAPTER}", f"{place}{ADAPTER_CONFIG}"))
            with naming(folder / f"{place}{ADAPTER}"):
                encoder.method.load_state_dict(read_adapter_tensors(folder / place))
    with naming(folder / HEAD):
        model.load_own_state(own)
    return model.eval()


def _is_on(model: RecommenderModel, manifest: Manifest) -> bool:
    """Whether a model stands on the backbone that the manifest names, where it has one."""
    encoder = model.text_encoder
    return encoder is None or encoder.backbone.fingerprint == (manifest.backbone or {}).get("fingerprint")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors about what a file holds begin with its name."""
    try:
        yield
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from None


def _baseline(folder: Path, config: Baseline, num_items: int) -> FittedBaseline:
    path = folder / BASELINE
    with naming(path):
        tensors = read_tensors(path)
        fitted = config.from_tensors(tensors)
        for name, tensor in tensors.items():
            if tensor.shape[0] != num_items:
                raise InputError(f"'{name}' has shape {tuple(tensor.shape)}, where there are {num_items:,} items")
    return fitted


def plain_recipe(path: Path) -> dict[str, Any]:
    """Return what a recipe file holds as JSON has it.

    Raises:
        RecipeError: if it cannot be read.
    """
    return dict(json.loads(json.dumps(read_yaml(path))))


def _recipe(folder: Path, manifest: Manifest) -> Recipe:
    """Read the recipe, which both files of the folder hold alike."""
    path = folder / RECIPE
    size = path.stat().st_size
    if size > _MOST_RECIPE_BYTES:
        raise InputError(f"{path}: has {size:,} bytes, and no recipe has more than {_MOST_RECIPE_BYTES:,}")
    try:
        recipe = load_recipe(path)
        held = plain_recipe(path)
    except RecursionError:
        raise InputError(f"{path}: is nested too deep for a recipe") from None
    except RecipeError as error:
        raise InputError(f"{error} (the recipe in the run folder cannot be read by this peftrec)") from None
    if manifest.recipe is not None and manifest.recipe != held:
        keys = sorted(key for key in held.keys() | manifest.recipe.keys() if held.get(key) != manifest.recipe.get(key))
        raise InputError(f"{path}: is not the recipe that {MANIFEST} holds (they differ in {', '.join(keys)})")
    return recipe


def _of_items(folder: Path, manifest: Manifest, recipe: Recipe, num_items: int) -> dict[str, torch.Tensor]:
    """Return what is stored of each item: `train_counts`, of models `bias`, and `vectors` where they are there."""
    stands_in_one = manifest.format_version == 1
    names = [VECTORS] if stands_in_one else [ITEM_SCORES, *([VECTORS] if VECTORS in manifest.files else [])]
    require_listed(folder, manifest, names)
    tensors: dict[str, torch.Tensor] = {}
    has_model = recipe.baseline is None and ENSEMBLE not in manifest.files
    for name in names:
        held = read_tensors(folder / name)
        wanted = {"vectors": torch.float32} if name == VECTORS and has_model else {}
        if name == ITEM_SCORES or stands_in_one:
            wanted |= {"train_counts": torch.int64} | ({"bias": torch.float32} if has_model else {})
        for key in sorted(held.keys() | wanted.keys()):
            found = None if key not in held else held[key].dtype
            if found != wanted.get(key):
                expected = "and belongs elsewhere" if key not in wanted else f"expected {wanted[key]}"
                raise InputError(f"{folder / name}: '{key}' is {found or 'missing'}, {expected}")
            # A logit in a column of its own would be added to every score of every item.
            dims = 2 if key == "vectors" else 1
            if held[key].dim() != dims or len(held[key]) != num_items:
                raise InputError(
                    f"{folder / name}: '{key}' has shape {tuple(held[key].shape)} and does not hold one row for each "
                    f"of the {num_items:,} items"
                )
        if "train_counts" in held and bool((held["train_counts"] < 0).any()):
            raise InputError(f"{folder / name}: 'train_counts' holds numbers below 0")
        tensors |= held
    return tensors


def _vectors(folder: Path, manifest: Manifest, model: RecommenderModel, stored: torch.Tensor | None) -> torch.Tensor:
    """Return the vectors of all items, encoded anew where none are stored."""
    if stored is None:
        assert VECTORS not in manifest.files
        logger.info("%s: holds no item vectors; the catalogue is encoded", folder)
        return model.encode_catalogue()[0]
    dim = model.item_encoder.dim
    if stored.shape[1:] != (dim,):
        raise InputError(
            f"{folder / VECTORS}: 'vectors' has shape {tuple(stored.shape)}, and this model's have {dim} columns"
        )
    return stored.to(model.device)
