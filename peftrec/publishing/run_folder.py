"""The run folder: everything needed to recommend, written once and proven on loading.

Shapes: N items of the catalogue, D width of item vectors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import peftrec
from peftrec.baselines import FittedBaseline
from peftrec.build import build_model
from peftrec.config import InputError, RecipeError
from peftrec.data import Catalogue
from peftrec.evaluation import ProductScores, UserScores
from peftrec.methods import read_adapter_tensors
from peftrec.models import RecommenderModel, scores_with
from peftrec.publishing.attribute_file import (
    attribute_files,
    read_attributes,
    set_item_attributes,
    write_attributes,
)
from peftrec.publishing.card import write_card
from peftrec.publishing.environment import describe_environment
from peftrec.publishing.item_table import ITEMS, read_items, write_items
from peftrec.publishing.manifest import Manifest, file_table, read_manifest, require_listed
from peftrec.publishing.probe import PROBES, check_probes, take_probes, write_probes
from peftrec.recipe import Recipe, load_recipe

RECIPE, HEAD, IDS, VECTORS = "recipe.yaml", "head.safetensors", "ids.safetensors", "item_vectors.safetensors"
BASELINE, METRICS, ENVIRONMENT = "baseline.safetensors", "metrics.json", "environment.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
ENSEMBLE = "ensemble.json"
# Where each adapter lies in the folder.
_PLACES = {"adapter": "", "user_adapter": "user_adapter/"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A loaded run.

    Args:
        folder: where it lies.
        recipe: resolved, as trained.
        catalogue: ids, texts and titles.
        train_counts_N: training events of each item.
        model: None for baselines.
        baseline: None for models.
        vectors_ND: item vectors as stored; None for baselines.
        bias_N: logit added to each item's score; None for baselines.
    """

    folder: Path
    recipe: Recipe
    catalogue: Catalogue
    train_counts_N: torch.Tensor
    model: RecommenderModel | None
    baseline: FittedBaseline | None
    vectors_ND: torch.Tensor | None
    bias_N: torch.Tensor | None

    @property
    def models(self) -> tuple[RecommenderModel, ...]:
        """All models that it scores with."""
        return () if self.model is None else (self.model,)

    def member_scores(self) -> dict[str, UserScores | ProductScores]:
        """Return the scores of the members of an ensemble by their names; other runs have none."""
        return {}

    def scores(
        self,
        histories_BL: NDArray[np.int64],
        users_B: NDArray[np.int64] | None = None,
        events_BL: NDArray[np.int64] | None = None,
        times_BL: NDArray[np.int64] | None = None,
    ) -> torch.Tensor:
        """Return the scores of the whole catalogue, shape (B, N); arguments as of `CatalogueScores`."""
        if self.baseline is not None:
            return self.baseline.scores(histories_BL)
        assert self.model is not None
        assert self.vectors_ND is not None
        assert self.bias_N is not None
        return scores_with(self.model, self.vectors_ND, self.bias_N)(histories_BL, users_B, events_BL, times_BL)

    @property
    def scorer(self) -> UserScores | ProductScores:
        """What ranks the catalogue: `scores`, or the vectors that they are the products of."""
        if self.model is None or self.vectors_ND is None or self.bias_N is None:
            return self.baseline if isinstance(self.baseline, ProductScores) else self.scores
        return scores_with(self.model, self.vectors_ND, self.bias_N)


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
    save_file(_ready({"vectors": vectors_ND, "bias": bias_N, "train_counts": counts}), folder / VECTORS)
    for start, encoder in model.text_encoders().items():
        config = encoder.method.adapter_config(encoder.backbone.base)
        if config is not None:
            place = folder / _PLACES[start]
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
    save_file({"train_counts": torch.from_numpy(train_counts)}, folder / VECTORS)
    finish_folder(folder, recipe, catalogue, metrics, None)
    load_run(folder)


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
    require_listed(folder, manifest, (RECIPE, ITEMS, VECTORS))
    try:
        recipe = load_recipe(folder / RECIPE)
    except RecipeError as error:
        raise InputError(f"{error} (the recipe in the run folder cannot be read by this peftrec)") from None
    catalogue = read_items(folder)
    tensors = _read(folder / VECTORS)
    if {len(tensor) for tensor in tensors.values()} != {len(catalogue)}:
        raise InputError(f"{folder / VECTORS}: does not hold one row for each of the {len(catalogue):,} items")
    if ENSEMBLE in manifest.files:
        from peftrec.publishing.ensemble_folder import load_ensemble  # which loads its members here

        return load_ensemble(folder, recipe, catalogue, tensors["train_counts"], manifest, verify=verify)
    if recipe.baseline is not None:
        require_listed(folder, manifest, (BASELINE,))
        fitted = recipe.baseline.from_tensors(_read(folder / BASELINE))
        return Run(folder, recipe, catalogue, tensors["train_counts"], None, fitted, None, None)
    model = _load_model(folder, recipe, catalogue, manifest)
    if verify:
        check_probes(folder, model, len(catalogue))
    vectors_ND, bias_N = (tensors[name].to(model.device) for name in ("vectors", "bias"))
    return Run(folder, recipe, catalogue, tensors["train_counts"], model, None, vectors_ND, bias_N)


def _load_model(folder: Path, recipe: Recipe, catalogue: Catalogue, manifest: Manifest) -> RecommenderModel:
    ids = (IDS,) if recipe.encoder.uses_ids else ()
    require_listed(folder, manifest, (HEAD, PROBES, *ids, *attribute_files(recipe.data)))
    own = _read(folder / HEAD) | (_read(folder / IDS) if recipe.encoder.uses_ids else {})
    has_id = own.get("item_encoder.has_id", torch.zeros(len(catalogue), dtype=torch.bool))
    model = build_model(recipe.here(), catalogue.texts, has_id, read_attributes(folder, recipe.data))
    set_item_attributes(folder, model, len(catalogue))
    if model.text_encoder is not None:
        found = model.text_encoder.backbone.fingerprint
        expected = (manifest.backbone or {}).get("fingerprint")
        if found != expected:
            raise InputError(
                f"{folder}: was trained on {recipe.encoder.backbone} (fingerprint {str(expected)[:12]}), but the "
                f"backbone found here has {found[:12]}; use the same weights (encoder.revision pins them)"
                + " on the same kind of device"
                * (recipe.encoder.quantization != "none")
            )
    for start, encoder in model.text_encoders().items():
        if encoder.method.state_dict():
            place = _PLACES[start]
            require_listed(folder, manifest, (f"{place}{ADAPTER}", f"{place}{ADAPTER_CONFIG}"))
            encoder.method.load_state_dict(read_adapter_tensors(folder / place))
    model.load_own_state(own)
    return model.eval()


def _prove(folder: Path, adapters_moved: Mapping[str, bool]) -> None:
    """Load the folder into a fresh object, compare the probes, and see that moved adapters change vectors."""
    model = load_run(folder).model
    assert model is not None
    if not any(adapters_moved.values()):
        return
    items = _read(folder / PROBES)["items"]
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
    write_card(folder, recipe, metrics, len(catalogue))
    for name, content in ((METRICS, metrics), (ENVIRONMENT, describe_environment())):
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    encoder = None if model is None else model.text_encoder
    backbone = None
    text_settings: dict[str, Any] = {"template": recipe.data.template}
    if encoder is not None:
        base = encoder.backbone.base
        # A folder of this machine means nothing elsewhere; whoever reads the file should see that.
        local = {"local": True} if Path(base.name).is_dir() else {}
        weights = {"quantization": encoder.backbone.quantization, "fingerprint": encoder.backbone.fingerprint}
        backbone = dataclasses.asdict(base) | local | weights
        text_settings |= {
            "pooling": encoder.pooling,
            "prefix": encoder.prefix,
            "max_tokens": recipe.encoder.max_tokens,
        }
    Manifest(
        peftrec_version=peftrec.__version__, backbone=backbone, text=text_settings, files=file_table(folder)
    ).write(folder)


def _ready(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"{path}: is missing from the run folder") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
