"""Finding and loading a pretrained language model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders.attention_kind import Attention, check_attention, check_attention_of
from peftrec.encoders.hub_revision import check_revision, commit_in_cache
from peftrec.encoders.packaged import PACKAGED_BACKBONES, PackagedBackbone, packaged_folder
from peftrec.encoders.quantization import (
    Quantization,
    check_quantization,
    default_device,
    loading_arguments,
    settle_quantized,
)
from peftrec.methods import BaseModel
from peftrec.methods.structure import text_config

logger = logging.getLogger(__name__)

Dtype = Literal["float32", "bfloat16"]
# A backbone that comes with code of its own is refused; if nothing is said, `transformers` asks whoever is there.
_NO_CODE: Final[dict[str, Any]] = {"trust_remote_code": False}

# Prefixes that backbones were trained with for symmetric tasks, by the beginning of their Hub id.
BACKBONE_PREFIXES = {
    "intfloat/e5-": "query: ",
    "intfloat/multilingual-e5-": "query: ",
    "nomic-ai/nomic-embed-text-": "search_document: ",
}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A loaded language model, as it was published or with quantised layers.

    Args:
        base: its name as written into files.
        model: in eval mode, without pooler and head, all gradients off.
        tokenizer: its fast tokenizer, padding on the right.
        dim: width of its token states.
        causal: whether a token sees only those before it.
        fingerprint: hash of names, shapes and a sample of every weight; of a quantised backbone, of the weights as
            rounded, which a GPU may round otherwise than a CPU.
        quantization: how the weights of its layers are stored; `none` for as they are.
        dtype: of its other weights, and of its states.
    """

    base: BaseModel
    model: nn.Module
    tokenizer: Any
    dim: int
    causal: bool
    fingerprint: str
    quantization: Quantization = "none"
    dtype: torch.dtype = torch.float32

    @property
    def default_prefix(self) -> str:
        """The text prefix that the backbone was trained with, or an empty text."""
        return default_prefix(self.base.name)


def default_prefix(name: str) -> str:
    """Return the text prefix that the backbone of a name was trained with, or an empty text."""
    return next((text for start, text in BACKBONE_PREFIXES.items() if name.startswith(start)), "")


def load_backbone(
    name: str,
    revision: str | None = None,
    quantization: Quantization = "none",
    *,
    dtype: Dtype = "float32",
    attention: Attention = "auto",
) -> Backbone:
    """Load a backbone from a folder, the local Hub cache, an installed package that carries it, or the Hub.

    They are tried in this order, but for packages whose weights are not quite the published ones: those stand in only
    where the Hub cannot be reached.

    Args:
        name: Hub id or folder.
        revision: commit or tag on the Hub.
        quantization: how to store the weights of linear modules inside the layers.
        dtype: of all weights that are not quantised.
        attention: the implementation; `auto` leaves the choice to `transformers`.
    Returns:
        The backbone, on the GPU where there is one.
    Raises:
        InputError: if it cannot be loaded from any of them; the message says what was tried. Or if bitsandbytes is
            missing, or cannot quantise so on this device, or the attention is not to be had.
    """
    device = default_device()
    check_attention(attention)
    if quantization != "none":
        check_quantization(quantization, device)
    source, where, revision_found = _locate(name, revision)
    try:
        with quiet_transformers():
            model, found, tokenizer = _read(name, source, revision, quantization, device, dtype, attention)
    except InputError:
        raise
    except Exception as error:
        check_revision(name, revision, error)
        raise InputError(
            f"encoder.backbone: '{name}' cannot be loaded {where}: {_first_line(error)}. It must be the Hub id of a "
            f"text model of transformers with safetensors weights, or a folder that holds one."
        ) from error
    _check_complete(name, found, tokenizer)
    if getattr(model, "pooler", None) is not None:
        # An unused pooler would be counted, saved and hashed, and DDP stops at parameters without gradient.
        model.pooler = None
    if source == name and not Path(name).is_dir():
        revision_found = commit_in_cache(name, revision) or revision
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if quantization == "none":
        model.to(device)
    model.requires_grad_(False)
    model.eval()
    config = text_config(model)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    logger.info("backbone %s loaded %s", name, where)
    return Backbone(
        base=BaseModel(name=name, revision=revision_found),
        model=model,
        tokenizer=tokenizer,
        dim=config.hidden_size,
        causal=any(getattr(module, "is_causal", False) is True for module in model.modules()),
        fingerprint=_hash(model, quantization),
        quantization=quantization,
        dtype=getattr(torch, dtype),
    )


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """Load the tokenizer of a backbone from where `load_backbone` would take it; its weights are not read.

    Args:
        name: Hub id or folder.
        revision: commit or tag on the Hub.
    Raises:
        InputError: if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    source, where, _ = _locate(name, revision)
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source, revision=revision, padding_side="right", **_NO_CODE)
    except Exception as error:
        check_revision(name, revision, error)
        raise InputError(f"encoder.backbone: no tokenizer of '{name}' {where}: {_first_line(error)}") from error


def _read(
    name: str,
    source: str,
    revision: str | None,
    quantization: Quantization,
    device: torch.device,
    dtype: Dtype,
    attention: Attention,
) -> tuple[Any, dict[str, Any], Any]:
    """Return the model, what `transformers` says of its weights, and the tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(source, revision=revision, **_NO_CODE)
    if getattr(config, "quantization_config", None) is not None:
        raise InputError(
            f"encoder.backbone: '{name}' holds weights that are quantised already; name the full-precision model, and "
            f"set encoder.quantization"
        )
    arguments: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if attention != "auto":
        arguments["attn_implementation"] = attention
        check_attention_of(name, config, attention)
    if quantization != "none":
        with torch.device("meta"):
            arguments |= loading_arguments(quantization, AutoModel.from_config(config), device)
    model, found = AutoModel.from_pretrained(
        source, revision=revision, use_safetensors=True, output_loading_info=True, **_NO_CODE, **arguments
    )
    if quantization != "none":
        settle_quantized(name, model)
    return model, found, AutoTokenizer.from_pretrained(source, revision=revision, padding_side="right", **_NO_CODE)


def _locate(name: str, revision: str | None) -> tuple[str, str, str | None]:
    """Return what `from_pretrained` is handed, how to say where that is, and the revision as written into files."""
    if Path(name).is_dir():
        return name, "from the folder", revision
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"encoder.backbone: '{name}' is neither a Hub id (owner/name) nor a folder that exists")
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise InputError(f"encoder.backbone: '{name}' is neither a Hub id nor a folder: {_first_line(error)}") from None
    if isinstance(cached, str):
        return name, "from the local Hub cache", revision
    packaged = PACKAGED_BACKBONES.get(name)
    # A package carries one revision, whichever that is: where one is asked for by name, only the Hub can tell.
    if packaged is None or revision is not None:
        return name, "from the Hub", revision
    if packaged.source is None:
        unpacked = f"the package {packaged.distribution}, which carries it, is not installed"
        return name, f"from the Hub ({unpacked})", revision
    if packaged.gguf is not None:
        if _hub_has(name):
            return name, "from the Hub", revision
        _warn_of_stand_in(name, packaged)
    return str(packaged_folder(packaged)), packaged.description, packaged.revision


def _hub_has(name: str) -> bool:
    """Whether the Hub can be asked for a model, and has it."""
    from huggingface_hub import model_info

    try:
        model_info(name, timeout=5)
    except Exception as error:
        # Which of several libraries' errors it is depends on what is between here and there.
        logger.info("%s: the Hub cannot be asked (%s)", name, _first_line(error))
        return False
    return True


@functools.cache
def _warn_of_stand_in(name: str, packaged: PackagedBackbone) -> None:
    """Say so once: people see their model's name and would think that they have its weights."""
    logger.warning("%s is loaded %s, as the Hub cannot be reached", name, packaged.description)


def _check_complete(name: str, found: dict[str, Any], tokenizer: Any) -> None:
    """Refuse what `transformers` fills in itself: missing weights at random, a missing tokenizer by an empty one."""
    missing = sorted(str(key) for key in found["missing_keys"] if "pooler" not in str(key).split("."))
    if missing:
        raise InputError(f"encoder.backbone: '{name}' lacks {len(missing)} of its weights, such as '{missing[0]}'")
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise InputError(f"encoder.backbone: '{name}' has no tokenizer (its vocabulary is empty)")


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _hash(model: nn.Module, quantization: Quantization) -> str:
    """Hash names, shapes and up to 64 evenly spaced values of every tensor: cheap even for large models."""
    digest = hashlib.sha256(b"" if quantization == "none" else quantization.encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].to(torch.float32).cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep `transformers` from drawing progress bars and load reports; errors still come through."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
