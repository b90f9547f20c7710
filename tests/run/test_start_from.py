"""Adapters of plain peft and of sentence-transformers as a start: taken whole, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftrec.build import build
from peftrec.config import InputError, RecipeError
from peftrec.publishing import load_run
from peftrec.run import train

TEXTS = ["small red wine", "large blue cheese. cheese", "one that was not there"]
TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}


def draw(model: torch.nn.Module) -> None:
    """Move every part of the adapter, so that each of them counts."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)


def save_peft(folder: Path, backbone: Path, auto: str = "AutoModel", **settings: Any) -> Path:
    import transformers
    from peft import LoraConfig, get_peft_model

    model = getattr(transformers, auto).from_pretrained(backbone)
    wrapped = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 16, **settings}))
    draw(wrapped)
    wrapped.save_pretrained(folder)
    return folder


def plain_vectors(adapter: Path, backbone: Path, texts: list[str], *, causal: bool) -> torch.Tensor:
    """Pooled states by transformers and peft alone."""
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(backbone), adapter).eval()
    vectors = []
    for text in texts:
        with torch.no_grad():
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=16)
            states = model(input_ids=tokens["input_ids"]).last_hidden_state[0]
        vectors.append(states[-1] if causal else states.mean(0))
    return torch.stack(vectors)


def start(make_recipe: Callable[..., Any], dataset: Any, adapter: Path, *overrides: str) -> Any:
    encoder = build(make_recipe(*overrides, f"method.start_from={adapter}"), dataset).model.text_encoder
    assert encoder is not None
    return encoder.eval()


def is_taken(encoder: Any, adapter: Path, backbone: Path, *, causal: bool = False) -> None:
    found = encoder.encode(encoder.tokenize(TEXTS))
    torch.testing.assert_close(found, plain_vectors(adapter, backbone, TEXTS, causal=causal), rtol=0, atol=1e-5)
    with encoder.method.disabled():
        base = encoder.encode(encoder.tokenize(TEXTS))
    assert float((found - base).abs().max()) > 1e-2


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_vectors_are_those_of_plain_peft(
    family: str, make_recipe: Callable[..., Any], toy_dataset: Any, backbones: dict[str, Path], tmp_path: Path
) -> None:
    backbone = backbones[family]
    # All linear modules; those of BERT hold a pooler, which nobody reads.
    save_peft(tmp_path / "a", backbone, target_modules="all-linear", task_type="FEATURE_EXTRACTION")
    encoder = start(make_recipe, toy_dataset, tmp_path / "a", f"encoder.backbone={backbone}")
    is_taken(encoder, tmp_path / "a", backbone, causal=family == "llama")


def test_variants_and_the_top_layers(
    make_recipe: Callable[..., Any], toy_dataset: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"use_dora": True, "use_rslora": True, "lora_alpha": 3, "r": 2, "lora_dropout": 0.1}
    adapter = save_peft(
        tmp_path / "a",
        tiny_bert,
        target_modules=TARGETS["bert"],
        layers_to_transform=[1, 2],
        **settings,
    )
    recipe = ("method.targets=[query, value]", "method.layers=2", "method.rank=2", "method.alpha=3")
    variants = ("method.dora=true", "method.rank_stabilized=true")
    is_taken(start(make_recipe, toy_dataset, adapter, *recipe, *variants), adapter, tiny_bert)


def test_an_adapter_of_sentence_transformers(
    make_recipe: Callable[..., Any], toy_dataset: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers")
    from peft import LoraConfig
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    model = SentenceTransformer(modules=[Transformer(str(tiny_bert), max_seq_length=16), Pooling(32)], device="cpu")
    model.add_adapter(LoraConfig(r=4, lora_alpha=16, target_modules=TARGETS["bert"], task_type="FEATURE_EXTRACTION"))
    draw(model)
    model.save(str(tmp_path / "st"), create_model_card=False)
    encoder = start(make_recipe, toy_dataset, tmp_path / "st", "method.targets=[query, value]")
    expected = torch.from_numpy(model.encode(TEXTS, show_progress_bar=False))
    torch.testing.assert_close(encoder.encode(encoder.tokenize(TEXTS)), expected, rtol=0, atol=1e-5)
    is_taken(encoder, tmp_path / "st", tiny_bert)


@pytest.mark.slow
def test_an_adapter_of_a_whole_model_and_raw_names(
    make_recipe: Callable[..., Any], toy_dataset: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    """Below a task head names begin with `bert.`; a raw state dict has the adapter's name in them."""
    plain = save_peft(tmp_path / "plain", tiny_bert, target_modules=TARGETS["bert"])
    whole = save_peft(tmp_path / "whole", tiny_bert, "AutoModelForMaskedLM", target_modules=TARGETS["bert"])
    tensors = load_file(plain / "adapter_model.safetensors")
    raw = edit(plain, tmp_path / "raw")
    named = {name.replace(".weight", ".default.weight"): tensor for name, tensor in tensors.items()}
    save_file(named, raw / "adapter_model.safetensors")
    below = {name.replace(".encoder", ".bert.encoder"): tensor for name, tensor in tensors.items()}
    assert below.keys() == load_file(whole / "adapter_model.safetensors").keys()
    save_file(below, whole / "adapter_model.safetensors")
    for adapter in (whole, raw):
        encoder = start(make_recipe, toy_dataset, adapter, "method.targets=[query, value]")
        is_taken(encoder, plain, tiny_bert)


def test_a_run_needs_the_folder_no_more(make_recipe: Callable[..., Any], tiny_bert: Path, tmp_path: Path) -> None:
    adapter = save_peft(tmp_path / "a", tiny_bert, target_modules=TARGETS["bert"])
    started = load_file(adapter / "adapter_model.safetensors")
    overrides = ("method.targets=[query, value]", f"method.start_from={adapter}", "training.warmup_frozen_epochs=1")
    train(make_recipe(*overrides, output_dir=tmp_path / "run"))
    shutil.rmtree(adapter)
    run = load_run(tmp_path / "run")
    assert run.recipe.method.start_from == str(adapter)  # type: ignore[attr-defined]
    ended = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert ended.keys() == started.keys()
    # A few small steps away from where it started, not from a start of its own.
    assert max(float((ended[name] - started[name]).abs().max()) for name in ended) < 0.2


def edit(source: Path, folder: Path, **keys: Any) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **keys}))
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rank 4, alpha 16, queries and values of all layers."""
    return save_peft(tmp_path_factory.mktemp("adapter") / "a", tiny_bert, target_modules=TARGETS["bert"])


@pytest.mark.parametrize(
    ("keys", "overrides", "message"),
    [
        ({}, ("method.rank=2",), r"has r 4, the recipe method.rank 2; set method.rank: 4"),
        ({}, ("method.alpha=8",), r"has lora_alpha 16, the recipe method.alpha 8.0; set method.alpha: 16"),
        ({}, ("method.dora=true",), r"has use_dora False, .* set method.dora: false"),
        ({}, ("method.rank_stabilized=true",), r"has use_rslora False, .* set method.rank_stabilized: false"),
        ({}, ("method.targets=[query]",), r"changes attention.self.query, attention.self.value in layers 0 to 2 \(6 "
         r"modules\), the recipe 3 modules .* set method.targets: \[\"attention.self.query\", \"attention"),
        ({}, ("method.layers=1",), r"the recipe 2 modules in layers 2 to 2; set .* method.layers"),
        ({"peft_type": "IA3"}, (), "adapter of the kind IA3; only LORA"),
        ({"init_lora_weights": "pissa"}, (), "'pissa', which changes the backbone"),
        ({"bias": "all"}, (), "was made with bias 'all', which no recipe can say"),
        ({"modules_to_save": ["pooler"]}, (), "was made with modules_to_save"),
        ({"base_model_name_or_path": "google/other"}, (), "was trained on 'google/other', not on '.*' of the recipe"),
        ({"base_model_name_or_path": None}, (), "was trained on '', not on"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    keys: dict[str, Any], overrides: tuple[str, ...], message: str, adapter: Path, make_recipe: Callable[..., Any],
    toy_dataset: Any, tmp_path: Path,
) -> None:  # fmt: skip
    folder = edit(adapter, tmp_path / "edited", **keys)
    with pytest.raises(InputError, match=message):
        start(make_recipe, toy_dataset, folder, "method.targets=[query, value]", *overrides)


def test_the_backbone_is_told_by_its_weights(
    adapter: Path,
    make_recipe: Callable[..., Any],
    toy_dataset: Any,
    tiny_bert: Path,
    other_tiny_bert: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "copy")
    targets = "method.targets=[query, value]"
    start(
        make_recipe, toy_dataset, edit(adapter, tmp_path / "a", base_model_name_or_path=str(tmp_path / "copy")), targets
    )
    folder = edit(adapter, tmp_path / "b", base_model_name_or_path=str(other_tiny_bert))
    with pytest.raises(InputError, match=r"if they are the same weights, put this name into its adapter_config.json"):
        start(make_recipe, toy_dataset, folder, targets)


def test_what_is_no_adapter_is_refused(
    adapter: Path, make_recipe: Callable[..., Any], toy_dataset: Any, tmp_path: Path
) -> None:
    targets = "method.targets=[query, value]"
    (tmp_path / "empty").mkdir()
    pickled = edit(adapter, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    cut = edit(adapter, tmp_path / "cut")
    (cut / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes()[:-9])
    broken = edit(adapter, tmp_path / "broken")
    (broken / "adapter_config.json").write_text("{")
    fewer = edit(adapter, tmp_path / "fewer")
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(dict(sorted(tensors.items())[1:]), fewer / "adapter_model.safetensors")
    untrained = edit(adapter, tmp_path / "untrained")
    zeros = {name: t * 0 if "lora_B" in name else t for name, t in tensors.items()}
    save_file(zeros, untrained / "adapter_model.safetensors")
    for folder, message in (
        (tmp_path / "empty", "holds no adapter_config.json; it is no folder of an adapter"),
        (pickled, "holds no adapter_model.safetensors; other formats are not read"),
        (cut, "truncated or damaged"),
        (broken, "adapter_config.json cannot be read"),
        (fewer, "1 missing, such as"),
        (untrained, "was never trained"),
        (Path("owner/name@v1"), "'owner/name@v1' is no folder that exists, and cannot be had from the Hub"),
    ):
        with pytest.raises(InputError, match=message):
            start(make_recipe, toy_dataset, folder, targets)
    with pytest.raises(RecipeError, match="init: eva and start_from both say how A and B start"):
        make_recipe(f"method.start_from={adapter}", "method.init=eva")
    with pytest.raises(RecipeError, match="start_from: is empty"):
        make_recipe("method.start_from=' '")
