"""The backbone of a published run: a model that others can have, the same as the one it was trained on."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from peftrec.config import InputError, RecipeError
from peftrec.publishing.hub.hub_error import hub_errors
from peftrec.publishing.hub.hub_name import HubName, parse_hub_name

# Keys of a config that say how it was written or is run, and nothing of what the weights mean.
_FREE = frozenset(
    {
        "_name_or_path", "name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype", "use_cache",
        "gradient_checkpointing", "auto_map", "_attn_implementation_autoset", "_commit_hash",
    }
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PublishedBase:
    """A model of the Hub in the place of a folder of this machine.

    Args:
        local: the folder, as the recipe names it.
        name: Hub id.
        revision: commit of the Hub; None where the Hub was not asked.
    """

    local: str
    name: str
    revision: str | None


def is_local_backbone(name: str) -> bool:
    """Whether a backbone's name is that of a folder, which others do not have."""
    return Path(name).is_dir() or name.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", name) is not None


def published_base(local: str, model_id: str, *, ask: bool) -> PublishedBase:
    """Return the model of the Hub that stands for a local backbone.

    Args:
        local: folder of the backbone that the run was trained on.
        model_id: Hub id, with `@revision` where another than the main branch is meant.
        ask: compare the two configs, for which the Hub is asked; else only the name is checked.
    Raises:
        RecipeError: if the id could not be one.
        InputError: if the folder has gone, the Hub cannot be asked, or the configs differ in what decides vectors.
    """
    name = _parse(model_id)
    if not ask:
        return PublishedBase(local, name.repo_id, None)
    from huggingface_hub import hf_hub_download

    if not (Path(local) / "config.json").is_file():
        raise InputError(f"{local}: the backbone of the run is not there, so it cannot be compared with {name}")
    with hub_errors(name, writing=False):
        path = Path(hf_hub_download(name.repo_id, "config.json", revision=name.revision))
    differing = _differing(_config(Path(local)), _config(path.parent))
    if differing:
        more = f", and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise InputError(
            f"--base-model-id {name}: is not the backbone of this run; config.json differs in "
            f"{', '.join(differing[:4])}{more}"
        )
    return PublishedBase(local, name.repo_id, path.parent.name)


def _parse(model_id: str) -> HubName:
    try:
        return parse_hub_name(model_id)
    except RecipeError as error:
        raise RecipeError(f"--base-model-id: {error}") from None


def _config(folder: Path) -> dict[str, Any]:
    """Return a model's config with every default written out, as `transformers` reads it."""
    from transformers import AutoConfig

    try:
        return dict(AutoConfig.from_pretrained(str(folder)).to_dict())
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / 'config.json'}: cannot be read ({str(error).splitlines()[0]})") from None


def _differing(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    keys = sorted((one.keys() | two.keys()) - _FREE)
    return [f"{key} ({one.get(key)!r} here, {two.get(key)!r} there)" for key in keys if one.get(key) != two.get(key)]
