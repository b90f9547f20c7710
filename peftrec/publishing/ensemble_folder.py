"""The run folder of an ensemble: its members, whole, and how their scores become one.

Shapes: B users, L places of a history, N items of the catalogue.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from peftrec.config import InputError
from peftrec.data import Catalogue
from peftrec.evaluation import ProductScores, UserScores
from peftrec.models import RecommenderModel
from peftrec.publishing.folder_reader import load_run
from peftrec.publishing.folder_writer import finish_folder
from peftrec.publishing.item_table import ITEMS
from peftrec.publishing.json_file import read_json
from peftrec.publishing.manifest import MANIFEST, Manifest, read_manifest, require_listed
from peftrec.publishing.run_folder import ENSEMBLE, ITEM_SCORES, Run
from peftrec.recipe import Recipe
from peftrec.retrieval import Fusion

_MEMBERS = "members"


@dataclasses.dataclass(frozen=True)
class EnsembleRun(Run):
    """Several runs that score as one; `model` and `baseline` are None.

    `recipe` is that of the member whose data, rules of evaluation and backbone of the references the ensemble has; what
    it says of a model holds for that member alone.

    Args:
        fusion: how the members' scores become one.
        members: by their names.
    """

    fusion: Fusion
    members: Mapping[str, Run]

    @property
    def models(self) -> tuple[RecommenderModel, ...]:
        return tuple(model for member in self.members.values() for model in member.models)

    def member_scores(self) -> dict[str, UserScores | ProductScores]:
        return {name: member.scorer for name, member in self.members.items()}

    def scores(self, *known: Any) -> torch.Tensor:
        return self.fusion.combine([self.fusion.part(member.scores(*known)) for member in self.members.values()])


def assemble(
    sources: Sequence[Path], folder: Path, *, recipe: Recipe, catalogue: Catalogue, train_counts: Any, fusion: Fusion
) -> EnsembleRun:
    """Copy runs into the folder of an ensemble, without what is private to them, and load the copies.

    Args:
        sources: run folders, in order.
        folder: of the ensemble.
        recipe: see `EnsembleRun`.
        catalogue: that all of them were trained on.
        train_counts: training events of each item, shape (N,).
        fusion: how their scores become one.
    Raises:
        InputError: if a source is no run folder, or damaged.
    """
    members = {}
    for place, source in enumerate(sources, start=1):
        name = f"{place}_{re.sub(r'[^A-Za-z0-9._-]', '_', source.resolve().name)}"
        for file in (MANIFEST, *read_manifest(source).files):
            target = folder / _MEMBERS / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, target)
        members[name] = load_run(folder / _MEMBERS / name)
    counts_N = torch.as_tensor(train_counts)
    return EnsembleRun(folder, recipe, catalogue, counts_N, None, None, None, None, fusion, members)


def save_ensemble_run(run: EnsembleRun, metrics: Mapping[str, Any]) -> None:
    """Write what an ensemble has beside its members, which lie in its folder already and were loaded from there.

    Args:
        run: from `assemble`.
        metrics: becomes `metrics.json`.
    Raises:
        InputError: if what was written does not read back as the same ensemble.
    """
    rows = [{"name": name, "weight": weight} for name, weight in zip(run.members, run.fusion.weights, strict=True)]
    text = json.dumps({"by": run.fusion.by, "members": rows}, indent=2, allow_nan=False)
    (run.folder / ENSEMBLE).write_text(text + "\n", encoding="utf-8")
    save_file({"train_counts": run.train_counts_N.contiguous()}, run.folder / ITEM_SCORES)
    finish_folder(run.folder, run.recipe, run.catalogue, metrics, None)
    fusion, folders = _read(run.folder, read_manifest(run.folder))
    if fusion != run.fusion or list(folders.values()) != [member.folder for member in run.members.values()]:
        raise InputError(f"{run.folder}: does not read back as the ensemble that was measured; not saved")


def load_ensemble(
    folder: Path, recipe: Recipe, catalogue: Catalogue, counts_N: torch.Tensor, manifest: Manifest, *, verify: bool
) -> EnsembleRun:
    """Load an ensemble and all its members; `load_run` calls this with what it has read.

    Raises:
        InputError: if `ensemble.json` is damaged, or a member is, or has other items.
    """
    fusion, folders = _read(folder, manifest)
    members = {name: load_run(member, verify=verify) for name, member in folders.items()}
    if any(member.catalogue.ids != catalogue.ids for member in members.values()):
        raise InputError(f"{folder / ITEMS}: holds other items than the members of the ensemble")
    return EnsembleRun(folder, recipe, catalogue, counts_N, None, None, None, None, fusion, members)


def _read(folder: Path, manifest: Manifest) -> tuple[Fusion, dict[str, Path]]:
    """Return what `ensemble.json` says, members as folders by name."""
    path = folder / ENSEMBLE
    try:
        content = read_json(path)
        names = [str(member["name"]) for member in content["members"]]
        fusion = Fusion(content["by"], tuple(float(member["weight"]) for member in content["members"]))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError) and str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: is damaged ({error})") from None
    require_listed(folder, manifest, [f"{_MEMBERS}/{name}/{MANIFEST}" for name in names])
    return fusion, {name: folder / _MEMBERS / name for name in names}
