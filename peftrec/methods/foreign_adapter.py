"""A LoRA that plain `peft` or sentence-transformers has trained, read to start from."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from peftrec.config import InputError
from peftrec.methods.method import check_tensors, read_adapter_tensors

_FILES = ("adapter_config.json", "adapter_model.safetensors")
_KEY = "method.start_from"
_START = "base_model.model."
# Keys of `adapter_config.json` that must be what the recipe says, by the recipe's name for them.
_RECIPE_KEYS = {
    "rank": "r",
    "alpha": "lora_alpha",
    "rank_stabilized": "use_rslora",
    "dora": "use_dora",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
}
# Keys that say how it was trained or written, or what the names of its tensors say too.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "exclude_modules", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_dropout", "megatron_core",
    "peft_type", "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
}  # fmt: skip
# Starts that leave the weights of the backbone as they are; the others put into files what belongs to changed ones.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclasses.dataclass(frozen=True, eq=False)
class ForeignAdapter:
    """What a folder of an adapter holds.

    Args:
        source: as the recipe names it.
        config: content of `adapter_config.json`.
        tensors: of `adapter_model.safetensors`.
    """

    source: str
    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def base(self) -> str:
        """Name or folder of the backbone that it was trained on."""
        return str(self.config.get("base_model_name_or_path") or "")

    def fitting(self, wanted: Mapping[str, Any], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return its tensors under our names.

        Args:
            wanted: the settings of the method in a `peft` config.
            own: the tensors of the method as it is.
        Raises:
            InputError: if it is another method, has other settings, changes other modules, or was never trained.
        """
        self._check_settings(wanted)
        found = self._renamed(own)
        self._check_modules(found, own)
        check_tensors(own, found, what=f"adapter of {_KEY} ({self.source})")
        if not any(tensor.any() for name, tensor in found.items() if name.endswith("lora_B.weight")):
            raise InputError(f"{_KEY}: {self.source} was never trained (every B is zero); leave start_from out")
        return found

    def _check_settings(self, wanted: Mapping[str, Any]) -> None:
        kind = self.config.get("peft_type")
        if kind != "LORA":
            raise InputError(f"{_KEY}: {self.source} holds an adapter of the kind {kind}; only LORA can be the start")
        if self.config.get("init_lora_weights", True) not in _PLAIN_STARTS:
            raise InputError(
                f"{_KEY}: {self.source} started with init_lora_weights {self.config['init_lora_weights']!r}, which "
                f"changes the backbone; save it with path_initial_model_for_weight_conversion"
            )
        for ours, theirs in _RECIPE_KEYS.items():
            found = self.config.get(theirs) or type(wanted[theirs])()
            if found != wanted[theirs]:
                raise InputError(
                    f"{_KEY}: {self.source} has {theirs} {found!r}, the recipe method.{ours} {wanted[theirs]!r}; set "
                    f"method.{ours}: {json.dumps(found)}"
                )
        for key, value in self.config.items():
            known = key in _HARMLESS or key in _RECIPE_KEYS.values()
            if not known and value not in (None, False, {}, [], "none", wanted.get(key)):
                raise InputError(f"{_KEY}: {self.source} was made with {key} {value!r}, which no recipe can say")

    def _renamed(self, own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Put our names in place of theirs, which may hold the name of the adapter, or that of a whole model."""
        bare = {name.removeprefix(_START).replace(".default", ""): tensor for name, tensor in self.tensors.items()}
        ours = {name.removeprefix(_START): name for name in own}
        ends = ((name, known) for name in bare for known in ours if name.endswith(f".{known}"))
        above = "" if bare.keys() & ours.keys() else next((name.removesuffix(known) for name, known in ends), "")
        found = {}
        for name, tensor in bare.items():
            short = name.removeprefix(above)
            # The pooler stands behind the states that we pool, so that nothing of it would be seen.
            if "pooler" not in short.split("."):
                found[ours.get(short, short)] = tensor
        return found

    def _check_modules(self, found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        theirs, ours = ({_module(name) for name in names} for names in (found, own))
        if theirs == ours:
            return
        strange = sorted(name for name in theirs if not re.search(r"\.\d+\.", name))
        if strange:
            raise InputError(f"{_KEY}: {self.source} changes '{strange[0]}', which is in no layer of this backbone")
        endings, layers = set(map(_ending, theirs)), set(map(_layer, theirs))
        raise InputError(
            f"{_KEY}: {self.source} changes {', '.join(sorted(endings))} in layers {min(layers)} to {max(layers)} "
            f"({len(theirs)} modules), the recipe {len(ours)} modules in layers {min(map(_layer, ours))} to "
            f"{max(map(_layer, ours))}; set method.targets: {json.dumps(sorted(endings))} and method.layers to as many "
            f"layers from the top, or all"
        )


def read_foreign_adapter(source: str) -> ForeignAdapter:
    """Read the folder of an adapter.

    Args:
        source: a folder, or a Hub id with `@revision` behind it where that matters.
    Raises:
        InputError: if it is not there, is damaged, or holds no safetensors.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _from_hub(source)
    path = folder / _FILES[0]
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{_KEY}: {source} holds no {_FILES[0]}; it is no folder of an adapter") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{_KEY}: {path} cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise InputError(f"{_KEY}: {path} is damaged (it holds no mapping)")
    if not (folder / _FILES[1]).is_file():
        raise InputError(f"{_KEY}: {source} holds no {_FILES[1]}; other formats are not read, save it as safetensors")
    return ForeignAdapter(source, config, read_adapter_tensors(folder))


def _from_hub(source: str) -> Path:
    from huggingface_hub import hf_hub_download

    name, _, revision = source.partition("@")
    try:
        paths = [Path(hf_hub_download(name, file, revision=revision or None)) for file in _FILES]
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{_KEY}: '{source}' is no folder that exists, and cannot be had from the Hub as owner/name[@revision]: "
            f"{first}"
        ) from None
    return paths[0].parent


def _module(name: str) -> str:
    return re.sub(r"\.lora_(A|B|magnitude_vector).*", "", name.removeprefix(_START))


def _ending(module: str) -> str:
    return re.split(r"\.\d+\.", module, maxsplit=1)[-1]


def _layer(module: str) -> int:
    match = re.search(r"\.(\d+)\.", module)
    return int(match[1]) if match else -1
