"""A run folder made ready to be published: in a folder aside, checked there, the run itself left as it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftrec.config import InputError, RecipeError
from peftrec.publishing import load_run
from peftrec.publishing.card import About, write_card
from peftrec.publishing.folder_reader import OtherBackboneError, plain_recipe
from peftrec.publishing.hub.base_model import PublishedBase, is_local_backbone, published_base
from peftrec.publishing.hub.portable_recipe import portable_recipe
from peftrec.publishing.hub.publishable import may_be_published
from peftrec.publishing.hub.secret import refuse_secrets
from peftrec.publishing.hub.user_data import known_users, refuse_users
from peftrec.publishing.item_table import read_items
from peftrec.publishing.manifest import Manifest, file_table, read_manifest
from peftrec.publishing.run_folder import ADAPTER_CONFIG, ITEM_SCORES, METRICS, RECIPE, VECTORS
from peftrec.recipe import Recipe, load_recipe

_MEMBERS = "members"


@dataclasses.dataclass(frozen=True)
class Staged:
    """What would be published.

    Args:
        folder: where it lies.
        files: bytes by name.
        replaced: texts of the recipe that mean something on this machine alone, and what stands there instead.
        num_users: ids of users that were looked for; None where the run keeps no data of users to know them by.
        base_model_id: the model of the Hub that stands for a local backbone.
    """

    folder: Path
    files: dict[str, int]
    replaced: dict[str, str]
    num_users: int | None
    base_model_id: str | None


def stage(
    run: Path,
    folder: Path,
    about: About,
    repo_id: str | None,
    *,
    others: Mapping[str, Mapping[str, Any]],
    base_model_id: str | None,
    with_vectors: bool,
    ask_hub: bool,
) -> Staged:
    """Copy what of a run may be published, and see that it holds nothing private.

    Args:
        run: the run folder; it is only read.
        folder: where to write; must be empty.
        about: what the card shall say beside what the run tells.
        repo_id: where it is published; None for a member of an ensemble.
        others: `metrics.json` of runs that stand beside this one in the card, by name.
        base_model_id: the model of the Hub that the run's local backbone is.
        with_vectors: publish the stored vectors of the items too.
        ask_hub: compare the backbone with the Hub's.
    Raises:
        InputError: if the run is damaged, its backbone is a folder without an id, or a file would tell of users, of
            secrets or of folders of this machine.
    """
    replaced = _stage_folder(
        run,
        folder,
        about,
        repo_id,
        others=others,
        base_model_id=base_model_id,
        with_vectors=with_vectors,
        ask_hub=ask_hub,
    )
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*.*"))}
    files = {name: size for name, size in files.items() if (folder / name).is_file()}
    for name in files:
        if (folder / name).suffix != ".safetensors":
            refuse_secrets(folder / name, f"{run}/{name}")
            _refuse_folders(folder, name, run, replaced)
    users = known_users(run)
    refuse_users(folder, files, users or frozenset(), str(run))
    return Staged(folder, files, replaced, None if users is None else len(users), base_model_id)


def prove(staged: Staged, run: Path) -> None:
    """Load what was staged into a fresh object and compare its probes, as whoever pulls it will.

    Raises:
        InputError: if it does not load, or gives other vectors or scores than the run did when it was trained.
    """
    try:
        load_run(staged.folder)
    except OtherBackboneError as error:
        if staged.base_model_id is None:
            raise InputError(f"not published: {str(error).replace(str(staged.folder), str(run))}") from None
        raise InputError(
            f"--base-model-id {staged.base_model_id}: has other weights than the backbone that {run} was trained on "
            f"(fingerprint {error.found[:12]}, where the run's is {error.expected[:12]}), although both have the same "
            f"config; nothing was sent"
        ) from None
    except InputError as error:
        raise InputError(f"not published: {str(error).replace(str(staged.folder), str(run))}") from None


def _stage_folder(
    run: Path,
    folder: Path,
    about: About,
    repo_id: str | None,
    *,
    others: Mapping[str, Mapping[str, Any]],
    base_model_id: str | None,
    with_vectors: bool,
    ask_hub: bool,
) -> dict[str, str]:
    """Stage a run, or a member of an ensemble; return what was replaced in its recipe."""
    manifest = read_manifest(run)
    try:
        recipe = load_recipe(run / RECIPE)
    except RecipeError as error:
        raise InputError(f"{error} (the recipe in the run folder cannot be read by this peftrec)") from None
    base = _base(run, manifest, recipe, base_model_id, ask_hub=ask_hub)
    replaced: dict[str, str] = {}
    members = {name.split("/")[1] for name in manifest.files if name.startswith(f"{_MEMBERS}/")}
    for name in sorted(members):
        inner = Path(_MEMBERS, name)
        replaced |= _stage_folder(
            run / inner,
            folder / inner,
            about,
            None,
            others={},
            base_model_id=base_model_id,
            with_vectors=with_vectors,
            ask_hub=ask_hub,
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in manifest.files:
        # Members were staged above. Runs of format 1 keep in the file of the vectors what scores need besides.
        left_out = name.startswith(f"{_MEMBERS}/") or (
            name == VECTORS and not with_vectors and ITEM_SCORES in manifest.files
        )
        if may_be_published(name) and not left_out:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, folder / name)
    portable, own = portable_recipe(recipe, base, (manifest.backbone or {}).get("revision"))
    (folder / RECIPE).write_text(portable.to_yaml(), encoding="utf-8")
    _rename_base(folder, base)
    metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    about = about if base is None else dataclasses.replace(about, base_model=base.name)
    number = len(read_items(folder))
    write_card(folder, portable, metrics, number, about=about, repo_id=repo_id, others=others, text=manifest.text)
    backbone = manifest.backbone
    if backbone is not None and base is not None:
        backbone = {**backbone, "name": base.name, "revision": base.revision}
        backbone.pop("local", None)
    changes: dict[str, Any] = {"backbone": backbone, "files": file_table(folder)}
    if manifest.recipe is not None:  # which format 1 keeps in its file alone
        changes["recipe"] = plain_recipe(folder / RECIPE)
    dataclasses.replace(manifest, **changes).write(folder)
    return replaced | own


def _base(
    run: Path, manifest: Manifest, recipe: Recipe, base_model_id: str | None, *, ask_hub: bool
) -> PublishedBase | None:
    """Return what stands for a local backbone, where a run has one."""
    name = recipe.encoder.backbone
    if manifest.backbone is None or not (manifest.backbone.get("local") or is_local_backbone(name)):
        return None
    if base_model_id is None:
        raise InputError(
            f"{run}: its backbone is a folder of this machine ({name}), which nobody else has; name the same model on "
            f"the Hub with --base-model-id"
        )
    return published_base(name, base_model_id, ask=ask_hub)


def _rename_base(folder: Path, base: PublishedBase | None) -> None:
    """Let the configs of adapters name the model of the Hub."""
    if base is None:
        return
    for path in (folder / ADAPTER_CONFIG, folder / "user_adapter" / ADAPTER_CONFIG):
        if path.is_file():
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            config |= {"base_model_name_or_path": base.name} | (
                {"revision": base.revision} if "revision" in config else {}
            )
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _refuse_folders(folder: Path, name: str, run: Path, replaced: dict[str, str]) -> None:
    """See that no folder of this machine is named in a file that is published."""
    text = (folder / name).read_text(encoding="utf-8")
    # A home may lie right under the root, as /root does, where its name alone is a common word.
    homes = (f"{Path.home()}/",) if Path.home() != Path("/") else ()
    for old in (*(old for old in (*replaced, str(run.resolve())) if len(Path(old).parts) > 2), *homes):
        if old in text:
            raise InputError(f"{run}/{name}: names a folder of this machine ({old}); nothing was sent")
