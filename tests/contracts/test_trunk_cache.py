"""Contract: for every kind of backbone whose trunk is stored, fed-in states give what the whole model gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from peftrec.encoders import (
    TRUNK_KINDS,
    Backbone,
    CacheConfig,
    CatalogueText,
    EncoderConfig,
    TextCache,
    TextEncoder,
    trunk,
)
from peftrec.methods import METHODS, BaseModel, find_layers

WINDOW = 8
# Of lengths on both sides of the sliding windows.
TEXTS = [
    "small red wine",
    "large blue cheese. aged, hard, goat " * 3,
    "tea",
    "green mint herb iced smoked tea small large " * 2,
    "rye",
    "dry oak wine, soft cheese",
]
BUDGET = 96
DECODERS = ("llama", "qwen2", "qwen3", "gemma3_text")
# Kinds in which layers differ, by whether they see the whole text.
WINDOWED = ("modernbert", "qwen2", "qwen3", "gemma3_text")
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]


def tiny_model(kind: str, vocab_size: int, window: int = WINDOW) -> nn.Module:
    """Return a random model of a kind.

    Weights are wide enough that every layer and token matters, and not so wide that rounding blows up.
    """
    common: dict[str, Any] = {
        "vocab_size": vocab_size, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48,
        "num_hidden_layers": 4, "initializer_range": 0.1, "pad_token_id": 0, "max_position_embeddings": 66,
    }  # fmt: skip
    decoder = common | {"num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": None, "use_cache": False}
    sliding = {"head_dim": 8, "sliding_window": window, "layer_types": MIXED}
    settings: dict[str, dict[str, Any]] = {
        "bert": common, "roberta": common, "xlm-roberta": common, "mpnet": common, "llama": decoder,
        "distilbert": common | {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48},
        "modernbert": common | {
            "local_attention": 2 * window, "global_attn_every_n_layers": 3, "cls_token_id": 2, "sep_token_id": 3,
            "bos_token_id": 2, "eos_token_id": 3,
        },
        "qwen2": decoder | {"use_sliding_window": True, "sliding_window": window, "layer_types": MIXED},
        "qwen3": decoder | sliding | {"use_sliding_window": True},
        "gemma3_text": decoder | sliding,
    }  # fmt: skip
    chosen = settings[kind]
    if kind == "distilbert":
        renamed = ("hidden_size", "num_hidden_layers", "num_attention_heads")
        chosen = {name: value for name, value in chosen.items() if name not in renamed}
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **chosen), dtype=torch.float32)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_bert, padding_side="right")


@pytest.fixture(scope="module")
def models(tokenizer: Any) -> dict[str, nn.Module]:
    return {kind: tiny_model(kind, len(tokenizer)) for kind in TRUNK_KINDS}


@pytest.fixture
def backbone_of(models: dict[str, nn.Module], tokenizer: Any) -> Callable[[str], Backbone]:
    def make(kind: str) -> Backbone:
        base = BaseModel(name=f"tiny/{kind}", revision=None)
        return Backbone(base, copy.deepcopy(models[kind]), tokenizer, 32, kind in DECODERS, fingerprint="")

    return make


def catalogue_of(backbone: Backbone, layers: int, folder: Path | None) -> CatalogueText:
    """Return a catalogue with a LoRA that has moved; its states come from a store on disk where there is a folder."""
    config = EncoderConfig(max_tokens=48, token_budget=BUDGET)
    where = CacheConfig(folder=None if folder is None else str(folder))
    cache = TextCache(where, backbone, lambda _: None)
    encoder = TextEncoder(backbone, config, METHODS.load("lora")(layers=layers, rank=2))
    torch.manual_seed(1)
    for parameter in encoder.method.named_parameters().values():
        nn.init.normal_(parameter, std=0.1)
    return CatalogueText(encoder, TEXTS, cache)


def vectors_and_gradients(catalogue: CatalogueText, chunks: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    encoder, texts = catalogue.encoder, catalogue.tokenized
    encoder.model.zero_grad(set_to_none=True)
    weights = torch.randn(len(TEXTS), encoder.dim, generator=torch.Generator().manual_seed(2))
    vectors = torch.zeros(len(TEXTS), encoder.dim)
    for chunk in chunks:
        part = encoder(texts, chunk)
        (part * weights[chunk]).sum().backward()
        vectors[chunk] = part.detach()
    gradients = [parameter.grad.flatten() for parameter in encoder.method.named_parameters().values()]
    return vectors, torch.cat(gradients)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 in relative norm."""
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", TRUNK_KINDS)
def test_cached_equals_uncached(kind: str, layers: int, backbone_of: Callable[[str], Backbone], tmp_path: Path) -> None:
    whole = catalogue_of(backbone_of(kind), layers, None)
    catalogue_of(backbone_of(kind), layers, tmp_path).store_trunk()
    cached = catalogue_of(backbone_of(kind), layers, tmp_path)
    cached.store_trunk()  # opens what the one before has written
    assert cached.tokenized.trunk_TH is not None
    assert int(whole.tokenized.lengths.max()) > 2 * WINDOW + 1
    layer_list = find_layers(cached.encoder.model).layers
    same_shapes = whole.tokenized.chunks(torch.arange(len(TEXTS)), BUDGET)
    expected = vectors_and_gradients(whole, same_shapes)
    for found, wanted in zip(vectors_and_gradients(cached, same_shapes), expected, strict=True):
        assert torch.equal(found, wanted)
    for chunks in ([torch.arange(len(TEXTS))], [torch.tensor([row]) for row in range(len(TEXTS))]):
        for found, wanted in zip(vectors_and_gradients(cached, chunks), expected, strict=True):
            assert_near(found, wanted)
    assert find_layers(cached.encoder.model).layers is layer_list


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_states_from_a_file_serve_a_process_in_which_no_layer_has_run(
    kind: str, backbone_of: Callable[[str], Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What layers return is found out then, and no random number is taken for it."""
    method = METHODS.load("lora")(layers=2, dropout=0.1)
    config = EncoderConfig(max_tokens=24, token_budget=BUDGET, cache=CacheConfig(folder=str(tmp_path)))
    wanted = None
    for _ in range(2):
        backbone = backbone_of(kind)
        cache = TextCache(config.cache, backbone, lambda _: None)
        torch.manual_seed(0)
        catalogue = CatalogueText(TextEncoder(backbone, config, method), TEXTS, cache)
        catalogue.store_trunk()
        monkeypatch.setattr(trunk, "_RETURN_TUPLES", {})
        catalogue.encoder.train()
        before = torch.get_rng_state()
        found = catalogue.encoder(catalogue.tokenized, torch.arange(2))
        if wanted is not None:
            torch.set_rng_state(before)
            assert torch.equal(catalogue.encoder(catalogue.tokenized, torch.arange(2)), found)
            assert torch.equal(found, wanted)
        wanted = found


@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_and_types_of_layers_matter_in_these_texts(
    kind: str, models: dict[str, nn.Module], tokenizer: Any
) -> None:
    """So that a layer run with another one's mask would be seen above."""
    inputs = tokenizer(TEXTS[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found = models[kind](input_ids=inputs).last_hidden_state
        wide = tiny_model(kind, len(tokenizer), window=64)(input_ids=inputs).last_hidden_state
    assert float((found - wide).abs().max()) > 1e-2


def test_states_are_computed_once(backbone_of: Callable[[str], Backbone], tmp_path: Path) -> None:
    def count_runs() -> int:
        catalogue = catalogue_of(backbone_of("bert"), 1, tmp_path)
        runs: list[int] = []
        for layer in find_layers(catalogue.encoder.model).layers:
            layer.register_forward_hook(lambda *_: runs.append(1))
        catalogue.store_trunk()
        catalogue.base_vectors()
        return len(runs)

    assert count_runs() > 0
    assert count_runs() == 0


def test_other_kinds_are_not_stored(backbone_of: Callable[[str], Backbone], tmp_path: Path) -> None:
    backbone = backbone_of("bert")
    backbone.model.config.model_type = "other"
    said: list[str] = []
    cache = TextCache(CacheConfig(folder=str(tmp_path)), backbone, said.append)
    encoder = TextEncoder(backbone, EncoderConfig(max_tokens=48), METHODS.load("lora")(layers=1))
    catalogue = CatalogueText(encoder, TEXTS, cache)
    catalogue.store_trunk()
    assert catalogue.tokenized.trunk_TH is None
    assert any("not stored for backbones of the kind 'other'" in line and "bert, roberta" in line for line in said)
    assert catalogue.base_vectors().shape == (len(TEXTS), 32)
