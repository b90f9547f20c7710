"""Finding layers and linear modules by structure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import load_backbone
from peftrec.methods import METHODS, count_parameters, find_layers, linear_names
from peftrec.methods.adapter import AdapterConfig
from peftrec.methods.block import find_blocks
from peftrec.methods.method import MethodConfig
from peftrec.methods.prefix import PrefixConfig
from peftrec.methods.side import SideConfig
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


@pytest.mark.parametrize("name", sorted(backbone_models()))
def test_lora_trains_on_known_architectures(name: str) -> None:
    torch.manual_seed(0)
    model = backbone_models()[name]()  # type: ignore[operator]
    model.requires_grad_(False)
    applied = METHODS.load("lora")(rank=2, layers=1).apply(model.eval())
    model(
        input_ids=torch.randint(5, 40, (2, 6)), attention_mask=torch.ones(2, 6, dtype=torch.int64)
    ).last_hidden_state.square().sum().backward()
    gradients = [parameter.grad for key, parameter in applied.named_parameters().items() if "lora_B" in key]
    assert gradients
    # Where only the last norm's output is read, a squared sum is constant up to its weights: none may be None.
    assert all(gradient is not None for gradient in gradients)


OWN_METHODS = {
    "houlsby": lambda **layers: AdapterConfig(reduction_factor=2.0, placement="houlsby", activation="gelu", **layers),
    "pfeiffer": lambda **layers: AdapterConfig(reduction_factor=2.0, activation="gelu", **layers),
    "parallel": lambda **layers: AdapterConfig(reduction_factor=2.0, placement="parallel", activation="gelu", **layers),
    "prefix": lambda **layers: PrefixConfig(num_tokens=3, **layers),
    "side": lambda **layers: SideConfig(width=4),
}


@pytest.mark.parametrize("layers", ["all", 1])
@pytest.mark.parametrize("method", sorted(OWN_METHODS))
@pytest.mark.parametrize("name", sorted(backbone_models()))
def test_own_methods_train_on_known_architectures(name: str, method: str, layers: object) -> None:
    torch.manual_seed(0)
    model = backbone_models()[name]()  # type: ignore[operator]
    model.eval().requires_grad_(False)
    ids = torch.randint(5, 40, (2, 6))
    inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2])}
    config: MethodConfig = OWN_METHODS[method](layers=layers)
    before = model(**inputs, output_hidden_states=True).hidden_states
    applied = config.apply(model)

    def vectors() -> tuple[torch.Tensor, ...]:
        states = model(**inputs, output_hidden_states=True).hidden_states
        if not applied.pooled_states:
            return tuple(state[:, :4] for state in states)
        return (applied.combine(torch.stack([states[k].mean(1) for k in applied.pooled_states], dim=1)),)

    start = vectors()[-1].detach()
    reference = before[-1].mean(1) if applied.pooled_states else before[-1][:, :4]
    assert torch.equal(start, reference) == config.declared().identity_at_start
    parameters = applied.named_parameters()
    optimizer = torch.optim.SGD(parameters.values(), lr=0.5)
    target = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    reached: set[str] = set()
    for _ in range(2):
        (vectors()[-1] - target).square().sum().backward()
        reached |= {key for key, p in parameters.items() if p.grad is not None and bool(p.grad.any())}
        optimizer.step()
        optimizer.zero_grad()
    assert reached == set(parameters)
    assert not [key for key, p in model.named_parameters() if p.requires_grad and key not in parameters]
    after = vectors()
    assert float((after[-1] - start).detach().abs().max()) > 1e-4
    for state in range(applied.first_layer + 1 if not applied.pooled_states else 0):
        assert torch.equal(after[state], before[state][:, :4]), state
    with applied.disabled():
        assert torch.equal(vectors()[-1], reference)
    assert torch.equal(vectors()[-1], after[-1])


@pytest.mark.parametrize("name", sorted(backbone_models()))
def test_blocks_of_known_architectures(name: str) -> None:
    model = backbone_models()[name]()  # type: ignore[operator]
    ends = {
        "BERT": ("attention.output.dense", "intermediate.dense", "output.dense"),
        "RoBERTa": ("attention.output.dense", "intermediate.dense", "output.dense"),
        "DistilBERT": ("attention.out_lin", "ffn.lin1", "ffn.lin2"),
        "MPNet": ("attention.attn.o", "intermediate.dense", "output.dense"),
        "ModernBERT": ("attn.Wo", "mlp.Wi", "mlp.Wo"),
    }.get(name, ("self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"))
    prefix = find_layers(model).name
    found = find_blocks(model)
    assert len(found) == 2
    for layer, blocks in enumerate(found):
        names = (blocks.attention_output, blocks.feed_forward_input, blocks.feed_forward_output)
        assert names == tuple(f"{prefix}.{layer}.{end}" for end in ends)
    assert find_blocks(model, first_layer=1) == found[1:]


def test_an_output_that_is_defined_first_is_found() -> None:
    import transformers as t

    small = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0}
    (blocks,) = find_blocks(t.Phi3Model(t.Phi3Config(**small, intermediate_size=24)))
    assert blocks.attention_inputs == ("layers.0.self_attn.qkv_proj",)
    assert blocks.attention_output == "layers.0.self_attn.o_proj"


def test_blocks_that_are_not_clear_are_refused_with_what_there_is() -> None:
    import transformers as t

    small = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    experts = t.MixtralModel(t.MixtralConfig(**small, num_key_value_heads=2, intermediate_size=24, num_local_experts=2))
    with pytest.raises(
        InputError, match=r"MixtralModel are not clear: .*several experts; name the .*method\.targets.*o_proj"
    ):
        AdapterConfig().apply(experts)
    numbered = t.BertModel(t.BertConfig(**small, intermediate_size=24))
    for layer in find_layers(numbered).layers:
        layer.add_module("experts", nn.ModuleList([nn.Linear(24, 16), nn.Linear(24, 16)]))
    with pytest.raises(InputError, match=r"the feed-forward block of 'encoder\.layer\.0' has several experts"):
        find_blocks(numbered)
    # Its linear modules are of another class.
    gpt = t.GPT2Model(t.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2))
    with pytest.raises(
        InputError, match=r"GPT2Model are not clear: 'h\.0\.attn' does not end with .*c_attn \(Conv1D\)"
    ):
        AdapterConfig().apply(gpt)
    crossed = t.BertModel(t.BertConfig(**small, intermediate_size=24, is_decoder=True, add_cross_attention=True))
    with pytest.raises(InputError, match=r"2 of the children of layer 'encoder\.layer\.0' hold attention"):
        AdapterConfig().apply(crossed)
    bare = t.BertModel(t.BertConfig(**small, intermediate_size=24))
    for layer in find_layers(bare).layers:
        layer.intermediate.dense = layer.output.dense = nn.Identity()
    with pytest.raises(
        InputError, match=r"no feed-forward block of width 16 lies beside 'encoder\.layer\.0\.attention'"
    ):
        find_blocks(bare)


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
