"""Quantised backbones: what is rounded and what is not, what they are called, and what is said where they cannot be."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.encoders.quantization import check_quantization
from peftrec.encoders.twin import twin_backbone
from peftrec.methods import METHODS, count_parameters, linear_names

bitsandbytes = pytest.importorskip("bitsandbytes")

QUANTIZED = ("int8", "nf4", "fp4")
FAMILIES = ("bert", "llama")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Kinds that were found to work are looked at again, and again afterwards."""
    check_quantization.cache_clear()
    yield
    check_quantization.cache_clear()


def is_quantized(module: nn.Module) -> bool:
    return isinstance(module, bitsandbytes.nn.Linear4bit | bitsandbytes.nn.Linear8bitLt)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", QUANTIZED)
def test_linear_modules_inside_the_layers_are_quantised_and_nothing_else(
    kind: str, family: str, backbones: dict[str, Path]
) -> None:
    plain, backbone = load_backbone(str(backbones[family])), load_backbone(str(backbones[family]), None, kind)
    assert (plain.quantization, backbone.quantization) == ("none", kind)
    quantized = [name for name, module in backbone.model.named_modules() if is_quantized(module)]
    assert quantized == linear_names(plain.model)
    published = dict(plain.model.named_parameters())
    for name, parameter in backbone.model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        if owner in quantized and leaf == "weight":
            assert parameter.dtype == (torch.int8 if kind == "int8" else torch.uint8), name
        else:
            assert torch.equal(parameter, published[name]), name
    assert not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_linear_modules_outside_of_the_layers_stay(tiny_bert: Path, tmp_path: Path) -> None:
    """A name that is the ending of another (`dense` of `encoder.layer.0.output.dense`) protects none but itself."""
    from transformers import ElectraConfig, ElectraModel

    folder = tmp_path / "electra"
    shutil.copytree(tiny_bert, folder, ignore=shutil.ignore_patterns("config.json", "model.safetensors"))
    config = ElectraConfig(
        vocab_size=len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]), embedding_size=16,
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    ElectraModel(config).save_pretrained(folder)
    model = load_backbone(str(folder), None, "nf4").model
    assert type(model.embeddings_project) is nn.Linear
    assert sum(map(is_quantized, model.modules())) == 2 * 6


def test_the_fingerprint_is_stable_and_tells_kinds_and_weights_apart(tiny_bert: Path, other_tiny_bert: Path) -> None:
    found = set()
    for kind in ("none", *QUANTIZED):
        fingerprint = load_backbone(str(tiny_bert), None, kind).fingerprint
        assert fingerprint == load_backbone(str(tiny_bert), None, kind).fingerprint
        found |= {fingerprint, load_backbone(str(other_tiny_bert), None, kind).fingerprint}
    assert len(found) == 8


@pytest.mark.parametrize("kind", QUANTIZED)
def test_parameters_are_counted_and_not_the_numbers_that_hold_them(kind: str, tiny_bert: Path) -> None:
    totals = []
    for quantization in ("none", kind):
        encoder = TextEncoder(
            load_backbone(str(tiny_bert), None, quantization),
            EncoderConfig(max_tokens=16),
            METHODS.load("lora")(rank=4),
        )
        count = count_parameters(trainable=(), stored=(), total=encoder.model.parameters())
        totals.append(count.total)
    assert totals[0] == totals[1]


def test_methods_that_need_the_weights_are_refused(tiny_bert: Path) -> None:
    config = EncoderConfig(max_tokens=16)
    with pytest.raises(
        InputError, match=r"method\.kind: 'full' .* quantised weights \(encoder\.quantization is int8\)"
    ):
        TextEncoder(load_backbone(str(tiny_bert), None, "int8"), config, METHODS.load("full")())
    with pytest.raises(InputError, match="'lora' with these settings does not work on quantised weights"):
        TextEncoder(load_backbone(str(tiny_bert), None, "nf4"), config, METHODS.load("lora")(rank=4, init="pissa"))


@pytest.mark.parametrize("kind", QUANTIZED)
def test_merging_into_rounded_weights_is_refused(kind: str, tiny_bert: Path) -> None:
    backbone = load_backbone(str(tiny_bert), None, kind)
    encoder = TextEncoder(backbone, EncoderConfig(max_tokens=16), METHODS.load("lora")(rank=4))
    with pytest.raises(InputError, match="merge into the full-precision backbone"):
        encoder.method.merge()


def test_without_bitsandbytes_the_message_says_what_to_install(
    tiny_bert: Path, unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"is nf4, which needs bitsandbytes; pip install 'peftrec\[quantization\]'$"):
        load_backbone(str(tiny_bert), None, "nf4")
    load_backbone(str(tiny_bert))


def test_a_device_without_kernels_is_named_before_anything_is_loaded(
    unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise NotImplementedError("no such operator\nand more")

    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", fails)
    message = (
        r"^encoder\.quantization: bitsandbytes .* has no working fp4 kernel for the device 'cpu' \(no such operator\)"
    )
    with pytest.raises(InputError, match=message):
        load_backbone("nobody/no-such-model", None, "fp4")
    check_quantization("int8", torch.device("cpu"))


def test_the_check_draws_no_random_number(unchecked: None) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    for kind in QUANTIZED:
        check_quantization(kind, torch.device("cpu"))
    assert torch.equal(torch.rand(1), expected)


def test_weights_that_are_quantised_already_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="holds weights that are quantised already; name the full-precision model"):
        load_backbone(str(folder))


def test_a_backbone_without_linear_modules_in_its_layers_is_refused(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peftrec.encoders.quantization.find_layers", lambda _: type("Layers", (), {"name": "nowhere"}))
    with pytest.raises(InputError, match="hold no linear module that can be quantised"):
        load_backbone(str(tiny_bert), None, "nf4")


@pytest.mark.parametrize("kind", QUANTIZED)
def test_real_vectors_stay_near_the_published_ones(kind: str, minilm: str) -> None:
    """Measured: 1 - cosine at most 0.0005 for int8, 0.04 for nf4, 0.08 for fp4."""
    frozen, texts = METHODS.load("frozen"), ["a comedy of the nineties", "war drama", "red wine, dry", "x"]
    vectors = []
    for quantization in ("none", kind):
        encoder = TextEncoder(load_backbone(minilm, None, quantization), EncoderConfig(max_tokens=16), frozen()).eval()
        vectors.append(encoder.encode(encoder.tokenize(texts)))
    distance = 1 - torch.cosine_similarity(*vectors)
    assert float(distance.max()) < {"int8": 0.002, "nf4": 0.08, "fp4": 0.15}[kind]
    assert not torch.equal(*vectors)


def test_a_recipe_takes_the_kind(make_recipe: Callable[..., object]) -> None:
    from peftrec.config import RecipeError

    assert make_recipe("encoder.quantization=nf4").encoder.quantization == "nf4"  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match=r"encoder\.quantization"):
        make_recipe("encoder.quantization=int4")


@pytest.mark.parametrize("kind", QUANTIZED)
def test_twins_share_rounded_weights_and_give_the_same(kind: str, tiny_bert: Path) -> None:
    loaded, method, texts = load_backbone(str(tiny_bert), None, kind), METHODS.load("lora")(rank=4), ["red wine", "a"]
    pair = [loaded, twin_backbone(loaded, [method, method])]
    encoders = [TextEncoder(each, EncoderConfig(max_tokens=16), method).eval() for each in pair]
    first, second, again = (encoder.encode(encoder.tokenize(texts)) for encoder in (*encoders, encoders[0]))
    assert torch.equal(first, second)
    assert torch.equal(first, again)
    weights = [each.model.get_parameter("encoder.layer.0.output.dense.base_layer.weight") for each in pair]
    assert weights[0] is weights[1]
    expected = TextEncoder(load_backbone(str(tiny_bert), None, kind), EncoderConfig(max_tokens=16), method).eval()
    torch.testing.assert_close(first, expected.encode(expected.tokenize(texts)), rtol=0, atol=1e-6)
