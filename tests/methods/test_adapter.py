"""Bottleneck adapters: hand-computed layers, counts, places, and what is refused."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.encoders.quantization import settle_quantized
from peftrec.methods import find_layers
from peftrec.methods.adapter import Adapter, AdapterConfig
from peftrec.methods.plain_peft import peft_type

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
INPUTS = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}


def adapted(path: Path, **settings: Any) -> tuple[nn.Module, Any]:
    """A tiny backbone and adapters whose weights are all random."""
    torch.manual_seed(0)
    model = load_backbone(str(path)).model
    applied = AdapterConfig(**{"reduction_factor": 4.0, **settings}).apply(model)
    for parameter in applied.named_parameters().values():
        nn.init.normal_(parameter, std=0.3)
    return model, applied


def by_hand(adapter: Adapter, states: torch.Tensor, activation: Any) -> torch.Tensor:
    inner = activation(states @ adapter.down.weight.T + adapter.down.bias)
    return inner @ adapter.up.weight.T + adapter.up.bias


@pytest.mark.parametrize("placement", PLACEMENTS)
@torch.no_grad()
def test_a_bert_layer_by_hand(placement: str, tiny_bert: Path) -> None:
    model, applied = adapted(tiny_bert, placement=placement, activation="gelu", scale=0.5, layers=1)
    states = model(**INPUTS, output_hidden_states=True).hidden_states
    layer = find_layers(model).layers[-1]
    seen: dict[str, torch.Tensor] = {}
    layer.attention.self.register_forward_hook(lambda _module, _args, output: seen.update(context=output[0]))
    model(**INPUTS)
    adapters = {name.rpartition(".adapter")[0].partition(".2.")[2]: part for name, part in model.named_modules()
                if isinstance(part, Adapter)}  # fmt: skip
    entered = states[-2]
    out = F.linear(seen["context"], layer.attention.output.dense.weight, layer.attention.output.dense.bias)
    if placement == "houlsby":
        out = out + 0.5 * by_hand(adapters.pop("attention.output.dense"), out, F.gelu)
    attended = layer.attention.output.LayerNorm(out + entered)
    inner = F.gelu(F.linear(attended, layer.intermediate.dense.weight, layer.intermediate.dense.bias))
    out = F.linear(inner, layer.output.dense.weight, layer.output.dense.bias)
    adapter = adapters.pop("output.dense")
    out = out + 0.5 * by_hand(adapter, attended if placement == "parallel" else out, F.gelu)
    assert not adapters
    torch.testing.assert_close(layer.output.LayerNorm(out + attended), states[-1], rtol=1e-5, atol=1e-5)
    assert applied.first_layer == 2


@pytest.mark.parametrize("placement", PLACEMENTS)
@torch.no_grad()
def test_a_llama_layer_by_hand(placement: str, tiny_llama: Path) -> None:
    model, _ = adapted(tiny_llama, placement=placement, activation="silu", layers=1)
    layer = find_layers(model).layers[-1]
    seen: dict[str, torch.Tensor] = {}
    layer.register_forward_pre_hook(lambda _module, args: seen.update(entered=args[0]))
    layer.self_attn.o_proj.register_forward_pre_hook(lambda _module, args: seen.update(context=args[0]))
    found = model(**INPUTS).last_hidden_state
    out = seen["context"] @ layer.self_attn.o_proj.weight.T
    if placement == "houlsby":
        out = out + by_hand(layer.self_attn.o_proj.adapter, out, F.silu)
    attended = seen["entered"] + out
    normed = layer.post_attention_layernorm(attended)
    mlp = layer.mlp
    out = (F.silu(normed @ mlp.gate_proj.weight.T) * (normed @ mlp.up_proj.weight.T)) @ mlp.down_proj.weight.T
    out = out + by_hand(mlp.down_proj.adapter, normed if placement == "parallel" else out, F.silu)
    torch.testing.assert_close(model.norm(attended + out), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_counts_follow_the_formula(placement: str, tiny_bert: Path) -> None:
    for layers, num_layers in (("all", 3), (2, 2)):
        for factor, width in ((4.0, 8), (16.0, 2), (2.5, 12), (0.5, 64)):
            _, applied = adapted(tiny_bert, placement=placement, reduction_factor=factor, layers=layers)
            count = sum(parameter.numel() for parameter in applied.named_parameters().values())
            adapters = num_layers * (2 if placement == "houlsby" else 1)
            assert count == adapters * (2 * 32 * width + width + 32)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_backbone_keeps_its_parameters_and_their_names(placement: str, tiny_bert: Path) -> None:
    model = load_backbone(str(tiny_bert)).model
    before = dict(model.named_parameters())
    applied = AdapterConfig(placement=placement).apply(model)  # type: ignore[arg-type]
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert after.keys() - before.keys() == applied.named_parameters().keys() == applied.state_dict().keys()
    assert all(f".{name}" in "".join(applied.state_dict()) for name in ("layer.0", "layer.1", "layer.2"))


@pytest.mark.parametrize("placement", PLACEMENTS)
@torch.no_grad()
def test_a_copy_stands_alone(placement: str, tiny_bert: Path) -> None:
    model, applied = adapted(tiny_bert, placement=placement)
    tuned = model(**INPUTS).last_hidden_state
    other = copy.deepcopy(applied)
    assert torch.equal(other.model(**INPUTS).last_hidden_state, tuned)
    for parameter in other.named_parameters().values():
        parameter.zero_()
    with other.disabled():
        assert torch.equal(model(**INPUTS).last_hidden_state, tuned)
    plain = load_backbone(str(tiny_bert)).model(**INPUTS).last_hidden_state
    assert torch.equal(other.model(**INPUTS).last_hidden_state, plain)


def test_threads_do_not_mix_what_enters_a_block(tiny_bert: Path) -> None:
    model, _ = adapted(tiny_bert, placement="parallel")
    texts = [torch.randint(4, 90, (1, 6), generator=torch.Generator().manual_seed(text)) for text in range(4)]
    barrier = threading.Barrier(4)
    found: dict[int, torch.Tensor] = {}

    def wait(*_: Any) -> None:
        """Inside the block, so that all threads have entered it before one leaves."""
        barrier.wait(timeout=60)

    find_layers(model).layers[1].intermediate.register_forward_hook(wait)

    @torch.no_grad()
    def run(text: int) -> None:
        found[text] = model(input_ids=texts[text]).last_hidden_state

    threads = [threading.Thread(target=run, args=(text,)) for text in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    expected, _ = adapted(tiny_bert, placement="parallel")
    for text, ids in enumerate(texts):
        with torch.no_grad():
            torch.testing.assert_close(found[text], expected(input_ids=ids).last_hidden_state, rtol=0, atol=1e-6)


def test_targets_take_the_place_of_the_placement(tiny_bert: Path) -> None:
    model, applied = adapted(tiny_bert, targets=("attention.self.value", "intermediate.dense"), layers=2)
    names = {name.partition(".adapter")[0] for name in applied.named_parameters()}
    assert names == {
        f"encoder.layer.{i}.{end}" for i in (1, 2) for end in ("attention.self.value", "intermediate.dense")
    }
    # The width follows the module: 48 / 4 behind the intermediate one.
    assert find_layers(model).layers[1].intermediate.dense.adapter.down.out_features == 12
    with pytest.raises(
        InputError, match=r"method\.targets: 'dens' matches no linear module; there are: .*output\.dense"
    ):
        adapted(tiny_bert, targets=("dens",))
    with pytest.raises(ValueError, match="targets: adapters stand behind the modules that it names"):
        AdapterConfig(targets=("output.dense",), placement="parallel")


def test_a_bottleneck_of_nothing_is_refused(tiny_bert: Path) -> None:
    adapted(tiny_bert, reduction_factor=32.0)
    with pytest.raises(
        InputError,
        match=r"reduction_factor is 33, .* 'encoder\.layer\.0\.output\.dense', whose width is 32; use at most 32",
    ):
        adapted(tiny_bert, reduction_factor=33.0)


def test_a_module_that_is_never_run_is_refused(tiny_bert: Path) -> None:
    model = load_backbone(str(tiny_bert)).model
    for layer in find_layers(model).layers:
        layer.add_module("idle", nn.Linear(32, 32))
    with pytest.raises(
        InputError,
        match=r"adapter cannot act on BertModel: what is put at 'encoder\.layer\.0\.idle\.adapter' changes no output",
    ):
        AdapterConfig(targets=("idle", "output.dense")).apply(model)


def test_dropout_acts_in_training_only(tiny_bert: Path) -> None:
    config = EncoderConfig(max_tokens=16)
    method = AdapterConfig(reduction_factor=2.0, activation="gelu", dropout=0.5)
    encoder = TextEncoder(load_backbone(str(tiny_bert)), config, method)
    for parameter in encoder.method.named_parameters().values():
        nn.init.normal_(parameter, std=0.3)
    texts, items = encoder.tokenize(["small red wine", "goat"]), torch.arange(2)
    with torch.no_grad():
        encoder.train()
        assert not torch.equal(encoder(texts, items), encoder(texts, items))
        encoder.eval()
        assert torch.equal(encoder(texts, items), encoder(texts, items))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("bits", [4, 8])
def test_on_a_quantised_backbone(bits: int, placement: str, tiny_bert: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModel, BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4")
    model = AutoModel.from_pretrained(tiny_bert, quantization_config=settings, add_pooling_layer=False)
    model.requires_grad_(False)
    settle_quantized("tiny", model)
    before = model(**INPUTS).last_hidden_state
    applied = AdapterConfig(placement=placement, reduction_factor=4.0).apply(model)  # type: ignore[arg-type]
    parameters = applied.named_parameters()
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    assert torch.equal(model(**INPUTS).last_hidden_state, before)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(**INPUTS).last_hidden_state[:, 0, :3].sum().backward()
        optimizer.step()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in parameters.values())
    assert not torch.equal(model(**INPUTS).last_hidden_state, before)
    with applied.disabled():
        assert torch.equal(model(**INPUTS).last_hidden_state, before)


def test_the_stored_config_holds_every_setting(tiny_bert: Path) -> None:
    backbone = load_backbone(str(tiny_bert))
    config = (
        AdapterConfig(placement="parallel", layers=2, scale=4.0).apply(backbone.model).adapter_config(backbone.base)
    )
    assert config.pop("note").startswith("Written by peftrec")
    assert config == {
        "peft_type": peft_type("adapter"),
        "task_type": "FEATURE_EXTRACTION",
        "inference_mode": True,
        "base_model_name_or_path": str(tiny_bert),
        "revision": None,
        "kind": "adapter",
        "layers": 2,
        "placement": "parallel",
        "reduction_factor": 16.0,
        "activation": "relu",
        "scale": 4.0,
        "dropout": 0.0,
        "targets": "auto",
    }
