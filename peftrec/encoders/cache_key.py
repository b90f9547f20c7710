"""What decides the tokens, states and vectors that a frozen backbone gives texts, as hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import nn

from peftrec.encoders.backbone import Backbone

# Of a configuration, what says nothing about the states.
_NAMES_ONLY = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "use_cache")


def entry_key(kind: str, identity: dict[str, Any]) -> str:
    """Return the name of an entry: its kind and a hash of all that it depends on."""
    return f"{kind}-{_hash(identity)[:20]}"


def weights_hash(model: nn.Module) -> str:
    """Hash names, types, shapes and every byte of all weights.

    That costs a second for some 2 GB on two cores, and one copy of the largest tensor where weights lie on a GPU; a
    single changed element gives another hash, which `Backbone.fingerprint`, a sample, would miss.

    Args:
        model: before a method is put into it, which renames weights and may change them.
    """
    tensors = sorted(model.state_dict().items())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(lambda entry: _tensor_hash(entry[1]), tensors))
    return _hash([[name, digest] for (name, _), digest in zip(tensors, digests, strict=True)])


def backbone_identity(backbone: Backbone) -> dict[str, Any]:
    """Return what decides the states of a backbone, but for the texts: weights, configuration, versions.

    Args:
        backbone: before a method is put into it.
    """
    import transformers

    config: Any = backbone.model.config
    settings = {name: value for name, value in config.to_dict().items() if name not in _NAMES_ONLY}
    identity = {
        "weights": weights_hash(backbone.model),
        "config": _hash(settings),
        "model": type(backbone.model).__name__,
        "attention": getattr(config, "_attn_implementation", None),
        "transformers": transformers.__version__,
        "torch": torch.__version__.partition("+")[0],
        "quantization": backbone.quantization,
    }
    if backbone.quantization != "none" or backbone.dtype != torch.float32:
        # Quantised layers compute in another precision on a GPU, and half precision rounds otherwise there.
        identity["device"] = next(backbone.model.parameters()).device.type
    return identity


def rounding_identity(backbone: Backbone, token_budget: int) -> dict[str, Any]:
    """Return what else decides the states: in half precision, how many texts are computed at once.

    Args:
        backbone: whose type of numbers counts.
        token_budget: of a chunk.
    """
    return {} if backbone.dtype == torch.float32 else {"token_budget": token_budget}


def token_identity(tokenizer: Any, texts: Sequence[str], *, max_tokens: int, prefix: str) -> dict[str, Any]:
    """Return what decides the tokens of texts.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        texts: N texts.
        max_tokens: where they are cut.
        prefix: put before each.
    """
    import tokenizers

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # The last call's settings stay in it.
    state.update(truncation=None, padding=None)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    digest = hashlib.sha256(lengths.tobytes())
    for start in range(0, len(texts), 8192):
        digest.update("".join(texts[start : start + 8192]).encode("utf-8", "surrogatepass"))
    return {
        "tokenizer": _hash(state),
        "tokenizers": tokenizers.__version__,
        "truncation_side": tokenizer.truncation_side,
        "texts": digest.hexdigest(),
        "num_texts": len(texts),
        "max_tokens": max_tokens,
        "prefix": prefix,
    }


def _tensor_hash(tensor: torch.Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
