"""The implementation of attention: what is asked for runs, and what cannot run is refused or replaced."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, TextEncoder, attention_here, load_backbone
from peftrec.methods import METHODS

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TEXTS = ["small red wine. wine", "large blue cheese", "a"]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_every_implementation_gives_the_same_vectors(family: str, backbones: dict[str, Path]) -> None:
    found = {}
    for attention in ("auto", "sdpa", "eager"):
        backbone = load_backbone(str(backbones[family]), attention=attention)  # type: ignore[arg-type]
        assert backbone.model.config._attn_implementation == ("sdpa" if attention == "auto" else attention)  # type: ignore[union-attr]
        encoder = TextEncoder(backbone, EncoderConfig(max_tokens=16), METHODS.load("frozen")())
        found[attention] = encoder.encode(encoder.tokenize(TEXTS))
    assert torch.equal(found["auto"], found["sdpa"])
    torch.testing.assert_close(found["eager"], found["sdpa"], rtol=1e-4, atol=1e-5)


def test_flash_attention_without_a_gpu_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^encoder\.attention is flash_attention_2, but there is no CUDA device; use"):
        load_backbone("./no-such-folder", attention="flash_attention_2", dtype="bfloat16")


def test_flash_attention_takes_16_bits_alone() -> None:
    with pytest.raises(ValueError, match="attention: flash_attention_2 takes states of 16 bits alone; set dtype"):
        EncoderConfig(attention="flash_attention_2")
    EncoderConfig(attention="flash_attention_2", dtype="bfloat16")


def test_a_backbone_that_lacks_it_is_named(tmp_path: Path, tiny_bert: Path) -> None:
    from transformers import AutoTokenizer, MPNetConfig, MPNetModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    config = MPNetConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    MPNetModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=rf"^encoder\.attention is sdpa, but '{tmp_path}' does not run it \(MPNetModel"
    ):
        load_backbone(str(tmp_path), attention="sdpa")
    load_backbone(str(tmp_path))


def test_a_run_of_flash_attention_loads_where_there_is_none(
    make_recipe: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make_recipe("encoder.attention=flash_attention_2", "encoder.dtype=bfloat16")
    with caplog.at_level(logging.WARNING):
        here = recipe.here()
    if not torch.cuda.is_available():
        assert here == dataclasses.replace(recipe, encoder=dataclasses.replace(recipe.encoder, attention="auto"))
        assert (
            "encoder.attention is flash_attention_2, but there is no CUDA device; auto takes its place" in caplog.text
        )
    caplog.clear()
    assert (attention_here("auto"), attention_here("eager")) == ("auto", "eager")
    assert not caplog.text


def test_prefixes_act_on_eager_attention_too(backbones: dict[str, Path]) -> None:
    found = []
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        backbone = load_backbone(str(backbones["llama"]), attention=attention)  # type: ignore[arg-type]
        encoder = TextEncoder(backbone, EncoderConfig(max_tokens=16), METHODS.load("prefix")(num_tokens=3))
        found.append(encoder.encode(encoder.tokenize(TEXTS)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
