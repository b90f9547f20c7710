"""The tiny backbones by their numbers, and encoders of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from peftrec.benchmark.scale.shape import BackboneShape, Tuning
from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.methods import METHODS


@pytest.fixture(scope="session")
def shape_of(backbones: dict[str, Path]) -> Callable[[str], BackboneShape]:
    """The shape of a tiny backbone, from its own file."""

    @functools.cache
    def shape(family: str) -> BackboneShape:
        config: Any = AutoConfig.from_pretrained(backbones[family])
        encoder = family == "bert"
        return BackboneShape(
            name=family,
            kind="encoder" if encoder else "decoder",
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            feedforward=config.intermediate_size,
            vocabulary=config.vocab_size,
            heads=config.num_attention_heads,
            key_heads=None if encoder else config.num_key_value_heads,
            positions=config.max_position_embeddings,
            segments=config.type_vocab_size if encoder else 0,
        )

    return shape


@pytest.fixture(scope="session")
def make_encoder(backbones: dict[str, Path]) -> Callable[..., TextEncoder]:
    """Make a tiny text encoder in training mode, with what a `Tuning` says in it."""

    def make(family: str, tuning: Tuning, *, budget: int = 4096, quantization: Any = "none", dtype: Any = "float32"):
        torch.manual_seed(0)
        settings: dict[str, Any] = {} if tuning.layers is None else {"layers": tuning.layers}
        if tuning.kind == "lora":
            settings["rank"] = tuning.rank
        backbone = load_backbone(str(backbones[family]), quantization=quantization, dtype=dtype)
        config = EncoderConfig(
            max_tokens=48, token_budget=budget, quantization=quantization, dtype=dtype, cache={"folder": None}
        )
        return TextEncoder(backbone, config, METHODS.load(tuning.kind)(**settings)).train()

    return make
