"""Finding layers and linear modules by structure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import load_backbone
from peftrec.encoders.trunk import entering_states, stored_states
from peftrec.methods import METHODS, count_parameters, find_layers, linear_names
from peftrec.methods.structure import name_pattern, select_targets


def backbone_models() -> dict[str, object]:
    """Small models of many architectures, made from their configurations."""
    import transformers as t

    small = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    return {
        "BERT": lambda: t.BertModel(t.BertConfig(**small)),
        "RoBERTa": lambda: t.RobertaModel(t.RobertaConfig(**small)),
        "DistilBERT": lambda: t.DistilBertModel(
            t.DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
        ),
        "MPNet": lambda: t.MPNetModel(t.MPNetConfig(**small)),
        "ModernBERT": lambda: t.ModernBertModel(
            t.ModernBertConfig(**small, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
        ),
        "Llama": lambda: t.LlamaModel(t.LlamaConfig(**small)),
        "Qwen3": lambda: t.Qwen3Model(t.Qwen3Config(**small, num_key_value_heads=2, head_dim=8)),
        "Gemma3": lambda: t.Gemma3TextModel(t.Gemma3TextConfig(**small, num_key_value_heads=2, head_dim=8)),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(backbone_models()))
def test_layers_and_targets_of_known_architectures(name: str) -> None:
    torch.manual_seed(0)
    model = backbone_models()[name]()  # type: ignore[operator]
    layers = find_layers(model)
    assert len(layers.layers) == 2
    names = linear_names(model)
    assert len(names) >= 8
    assert not [found for found in names if re.search(r"pooler|head|embed", found.split(".layer")[0])]
    inside = sum(isinstance(module, nn.Linear) for module in layers.layers.modules())
    assert len(names) == inside
    top = linear_names(model, first_layer=1)
    assert 2 * len(top) == len(names)
    pattern = re.compile(name_pattern(top))
    matched = [
        found for found, module in model.named_modules() if isinstance(module, nn.Linear) and pattern.fullmatch(found)
    ]
    assert matched == top


# Own adapters, prefixes and side networks have tests of their own on these.
KINDS = ("lora", "adalora", "bitfit", "layernorm", "ia3", "full", "prompt", "p_tuning", "vera", "oft")
SETTINGS: dict[str, dict[str, object]] = {
    "lora": {"rank": 2},
    "adalora": {"initial_rank": 3, "target_rank": 2},
    "vera": {"rank": 4},
    "oft": {"block_size": 4},
}


@pytest.mark.parametrize("name", sorted(backbone_models()))
@pytest.mark.parametrize("kind", KINDS)
def test_methods_train_on_known_architectures(kind: str, name: str) -> None:
    torch.manual_seed(0)
    model = backbone_models()[name]()  # type: ignore[operator]
    model.requires_grad_(False)
    if kind == "bitfit" and name in ("Llama", "Qwen3", "Gemma3", "ModernBERT"):
        with pytest.raises(InputError, match=f"bitfit cannot act on {type(model).__name__}, which has no biases"):
            METHODS.load(kind)().apply(model)
        return
    method = METHODS.load(kind)
    layers = {"layers": 1} if method.capabilities.can_limit_layers else {}
    applied = method(**SETTINGS.get(kind, {}), **layers).apply(model.eval())
    optimizer = torch.optim.SGD(applied.named_parameters().values(), lr=0.1)
    inputs = {"input_ids": torch.randint(5, 40, (2, 6)), "attention_mask": torch.ones(2, 6, dtype=torch.int64)}
    seen: dict[str, float] = {}
    for _ in range(2):
        states = applied.model(**inputs).last_hidden_state
        (states * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        for key, parameter in applied.named_parameters().items():
            assert parameter.grad is not None, key
            seen[key] = max(seen.get(key, 0.0), float(parameter.grad.abs().max()))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    # Adding the same number to all keys changes no softmax.
    assert not [
        key for key, value in seen.items() if value == 0 and not re.search(r"\b(key|k|k_lin|k_proj)\.bias$", key)
    ]


@pytest.mark.parametrize("name", sorted(backbone_models()))
def test_the_trunk_is_exact_on_known_architectures(name: str) -> None:
    torch.manual_seed(0)
    model = backbone_models()[name]().eval()  # type: ignore[operator]
    tokens = torch.randint(5, 40, (3, 6))
    mask = torch.ones(3, 6, dtype=torch.int64)
    mask[1, 4:] = mask[2, 2:] = 0
    inputs = {"input_ids": tokens, "attention_mask": mask}
    model.config.use_cache = False
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        states = entering_states(model, 1, **inputs)
        with stored_states(model, 1, states):
            found = model(**inputs).last_hidden_state
    assert torch.equal(found[mask == 1], expected[mask == 1])


def test_bitfit_trains_the_biases_that_a_decoder_has() -> None:
    import transformers as t

    torch.manual_seed(0)
    config = t.Qwen2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        num_key_value_heads=2,
    )  # fmt: skip
    applied = METHODS.load("bitfit")(layers=1).apply(t.Qwen2Model(config))
    assert [name.split(".", 2)[2] for name in applied.named_parameters()] == [
        "self_attn.q_proj.bias",
        "self_attn.k_proj.bias",
        "self_attn.v_proj.bias",
    ]


def test_a_pooler_is_left_alone() -> None:
    model = backbone_models()["BERT"]()  # type: ignore[operator]
    for kind in ("full", "bitfit"):
        assert not [name for name in METHODS.load(kind)().apply(model).named_parameters() if "pooler" in name]


def test_keys_and_values_of_ia3_can_be_named(tiny_bert: Path) -> None:
    ia3 = METHODS.load("ia3")
    found = ia3(targets=("query",), feed_forward_targets=("intermediate.dense",)).apply(
        load_backbone(str(tiny_bert)).model
    )
    assert {name.split(".ia3_l")[0].split(".", 3)[3] for name in found.named_parameters()} == {
        "attention.self.query",
        "intermediate.dense",
    }
    with pytest.raises(InputError, match=r"method\.targets: '.*query' is also in feed_forward_targets"):
        ia3(targets=("query",), feed_forward_targets=("query",)).apply(load_backbone(str(tiny_bert)).model)


def test_other_methods_of_peft() -> None:
    peft = METHODS.load("peft")
    with pytest.raises(ValueError, match=r"peft_type: 'LOAH' is not one that is known .* Did you mean 'LOHA'\?"):
        peft(peft_type="LOAH")
    with pytest.raises(ValueError, match="settings: 'task_type' is set by peftrec"):
        peft(peft_type="LOHA", settings={"task_type": "SEQ_CLS"})
    with pytest.raises(ValueError, match="target_modules and layers exclude each other"):
        peft(peft_type="LOHA", layers=1, settings={"target_modules": ["query"]})
    with pytest.raises(InputError, match=r"method\.settings\.r is 99, larger than '.*' \(16 x 16\) allows"):
        peft(peft_type="LOHA", settings={"r": 99}).apply(backbone_models()["BERT"]())  # type: ignore[operator]
    with pytest.raises(InputError, match=r"method\.settings: LOHA refuses them: .*rang"):
        peft(peft_type="LOHA", settings={"rang": 3}).apply(backbone_models()["BERT"]())  # type: ignore[operator]


def test_blocks_of_oft_must_divide_the_width(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match=r"method\.block_size is 5, which does not divide the 32 inputs of '.*'"):
        METHODS.load("oft")(block_size=5).apply(load_backbone(str(tiny_bert)).model)


def test_ranks_of_single_modules(tiny_bert: Path) -> None:
    lora = METHODS.load("lora")
    found = lora(rank=4, rank_pattern={"query": 2}).apply(load_backbone(str(tiny_bert)).model).named_parameters()
    ranks = {name.split(".lora_A")[0].rpartition(".")[2]: p.shape[0] for name, p in found.items() if "lora_A" in name}
    assert ranks == {"query": 2, "key": 4, "value": 4, "dense": 4}
    with pytest.raises(ValueError, match="rank_pattern: with init eva peft moves ranks between modules"):
        lora(init="eva", rank_pattern={"query": 2})
    with pytest.raises(InputError, match=r"method\.alpha_pattern: 'qery' matches no linear module"):
        lora(alpha_pattern={"qery": 2.0}).apply(load_backbone(str(tiny_bert)).model)
    with pytest.raises(InputError, match=r"rank_pattern: 'self.query' and 'query' both match '.*query'"):
        lora(rank_pattern={"query": 2, "self.query": 3}).apply(load_backbone(str(tiny_bert)).model)
    with pytest.raises(InputError, match=r"method\.rank_pattern: 'qery' matches no linear module; there are:"):
        lora(rank_pattern={"qery": 2}).apply(load_backbone(str(tiny_bert)).model)
    with pytest.raises(InputError, match=r"method\.rank_pattern is 40, larger than '.*query'"):
        lora(rank_pattern={"query": 40}).apply(load_backbone(str(tiny_bert)).model)


def test_a_model_without_layers_lists_what_there_is() -> None:
    class Config:
        num_hidden_layers = 3

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = Config()
            self.blocks = nn.ModuleList([nn.Linear(2, 2)])

    with pytest.raises(
        InputError, match=r"Odd: no list of 3 transformer layers was found; lists there are: \{'blocks': 1\}"
    ):
        find_layers(Odd())


def test_targets_by_ending(tiny_bert: Path) -> None:
    names = linear_names(load_backbone(str(tiny_bert)).model)
    assert len(select_targets(names, ("query",))) == 3
    assert len(select_targets(names, ("attention.output.dense", "key"))) == 6
    # An ending begins at a dot: `dense` is not `xdense`.
    assert select_targets(["layer.0.dense", "layer.0.xdense"], ("dense",)) == ["layer.0.dense"]
    with pytest.raises(
        InputError, match=r"method\.targets: 'qery' matches no linear module; there are: .*attention\.self\.query"
    ):
        select_targets(names, ("query", "qery"))


def test_targets_reach_lora(tiny_bert: Path) -> None:
    model = load_backbone(str(tiny_bert)).model
    found = METHODS.load("lora")(rank=2, targets=("query", "value")).apply(model).named_parameters()
    assert len(found) == 3 * 2 * 2
    assert all(re.search(r"\.(query|value)\.lora_[AB]\.", name) for name in found)
    with pytest.raises(InputError, match=r"'embeddings' matches no linear module"):
        METHODS.load("lora")(targets=("embeddings",)).apply(load_backbone(str(tiny_bert)).model)


def test_a_rank_larger_than_the_matrix_is_refused(tiny_bert: Path, tiny_llama: Path) -> None:
    with pytest.raises(InputError, match=r"method\.rank is 33, larger than '.*' \(32 x 32\) allows; use at most 32"):
        METHODS.load("lora")(rank=33).apply(load_backbone(str(tiny_bert)).model)
    with pytest.raises(InputError, match=r"use at most 16"):
        METHODS.load("lora")(rank=32).apply(load_backbone(str(tiny_llama)).model)


def test_frozen_has_no_layers_to_choose() -> None:
    with pytest.raises(ValueError, match="layers: a frozen backbone has no layers to choose"):
        METHODS.load("frozen")(layers=1)


def test_counting() -> None:
    count = count_parameters(
        trainable=[torch.zeros(3)], stored=[torch.zeros(2, 2), torch.zeros(3, dtype=torch.bool)], total=[torch.zeros(9)]
    )
    assert (count.trainable, count.stored, count.stored_bytes, count.total) == (3, 7, 19, 9)
    assert count.dtype == "bool, float32"
