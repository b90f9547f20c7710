"""Prefixes in attention: against attention by hand, windows, other models, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.encoders.quantization import settle_quantized
from peftrec.methods import find_layers
from peftrec.methods.prefix import PrefixConfig
from peftrec.methods.prefix_attention import Prefix

IDS = torch.tensor([[5, 6, 7, 8, 9, 4], [9, 8, 7, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
INPUTS = {"input_ids": IDS, "attention_mask": MASK}
SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip


def with_prefix(model: nn.Module, std: float = 1.0, **settings: Any) -> Any:
    torch.manual_seed(1)
    model.requires_grad_(False)
    return PrefixConfig(**{"num_tokens": 3, "init_std": std, **settings}).apply(model)


def top_attention(model: nn.Module) -> nn.Module:
    """The module of the top layer that holds the prefix."""
    return next(module for module in find_layers(model).layers[-1].modules() if hasattr(module, "prefix"))


def capture(model: nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Run a model and keep what every linear module of its top layer was given and gave."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
            seen[name + ".in"], seen[name + ".out"] = args[0], output

        return hook

    handles = [
        module.register_forward_hook(keep(name.rpartition(".")[2]))
        for name, module in top_attention(model).named_modules()
        if isinstance(module, nn.Linear)
    ]
    model(**inputs)
    for handle in handles:
        handle.remove()
    return seen


def split(states: torch.Tensor, heads: int) -> torch.Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def by_hand(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, prefix: Prefix, visible: torch.Tensor, bias: Any = 0.0
) -> torch.Tensor:
    """Softmax over the scores of the prefix and of the visible keys, text by text; (B, T, heads * width)."""
    assert prefix.keys is not None
    assert prefix.values is not None
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5
    key, value = (states.repeat_interleave(groups, 1) for states in (key, value))
    own_key, own_value = (states.repeat_interleave(groups, 0) for states in (prefix.keys, prefix.values))
    of_text = (torch.einsum("bhtd,bhsd->bhts", query, key) * scale + bias).exp() * visible
    of_prefix = (torch.einsum("bhtd,hpd->bhtp", query, own_key) * scale).exp()
    total = of_text.sum(-1, keepdim=True) + of_prefix.sum(-1, keepdim=True)
    context = (
        torch.einsum("bhts,bhsd->bhtd", of_text, value) + torch.einsum("bhtp,hpd->bhtd", of_prefix, own_value)
    ) / total
    return context.transpose(1, 2).flatten(2)


@torch.no_grad()
def test_bert_by_hand(tiny_bert: Path) -> None:
    model = load_backbone(str(tiny_bert)).model
    with_prefix(model)
    attention: Any = top_attention(model)
    kept: dict[str, torch.Tensor] = {}
    attention.register_forward_hook(lambda _module, _args, output: kept.update(context=output[0]))
    seen = capture(model, INPUTS)
    query, key, value = (split(seen[f"{name}.out"], 4) for name in ("query", "key", "value"))
    expected = by_hand(query, key, value, attention.prefix, MASK[:, None, None, :])
    torch.testing.assert_close(kept["context"], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_mpnet_by_hand() -> None:
    import transformers as t

    torch.manual_seed(0)
    model = t.MPNetModel(t.MPNetConfig(**SMALL, initializer_range=0.5)).eval()
    with_prefix(model)
    attention: Any = top_attention(model)
    seen = capture(model, INPUTS)
    query, key, value = (split(seen[f"{name}.out"], 2) for name in ("q", "k", "v"))
    bias = model.encoder.compute_position_bias(seen["q.in"])
    expected = by_hand(query, key, value, attention.prefix, MASK[:, None, None, :], bias)
    torch.testing.assert_close(seen["o.in"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", [True, False])
@torch.no_grad()
def test_llama_with_grouped_heads_by_hand(padded: bool, tiny_llama: Path) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    model: Any = load_backbone(str(tiny_llama)).model
    with_prefix(model)
    attention: Any = top_attention(model)
    assert attention.prefix.keys.shape == (2, 3, 8)
    # Without padding there is no mask at all: the backbone leaves the order to sdpa.
    inputs = INPUTS if padded else {"input_ids": IDS}
    seen = capture(model, inputs)
    query, key, value = (split(seen[f"{name}_proj.out"], heads) for name, heads in (("q", 4), ("k", 2), ("v", 2)))
    cos, sin = model.rotary_emb(query, torch.arange(IDS.shape[1])[None])
    query, key = apply_rotary_pos_emb(query, key, cos, sin)
    visible = torch.ones(IDS.shape[1], IDS.shape[1]).tril()[None, None]
    if padded:
        visible = visible * MASK[:, None, None, :]
    expected = by_hand(query, key, value, attention.prefix, visible)
    torch.testing.assert_close(seen["o_proj.in"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ModernBERT", "Gemma3"])
def test_the_prefix_stands_outside_every_window(name: str) -> None:
    import transformers as t

    torch.manual_seed(0)
    one = {**SMALL, "num_hidden_layers": 1, "layer_types": ["sliding_attention"]}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    if name == "ModernBERT":
        model: Any = t.ModernBertModel(t.ModernBertConfig(**one, **ends, local_attention=4)).eval()
    else:
        config = t.Gemma3TextConfig(**one, num_key_value_heads=1, head_dim=8, sliding_window=3)
        model = t.Gemma3TextModel(config).eval()
    applied = with_prefix(model)
    values = applied.parts[0].values
    ids = torch.arange(4, 16)[None]
    for inputs in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}):
        embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
        inputs = {**inputs, "inputs_embeds": embeddings}
        del inputs["input_ids"]
        states = (
            model(**inputs, use_cache=False).last_hidden_state
            if name == "Gemma3"
            else model(**inputs).last_hidden_state
        )
        for token in range(ids.shape[1]):
            weights = torch.arange(16.0)
            of_prefix, of_text = torch.autograd.grad(
                (states[0, token] * weights).sum(), (values, embeddings), retain_graph=True
            )
            assert bool(of_prefix.any()), token
            reached = {int(place) for place in of_text[0].abs().sum(-1).nonzero()}
            near = range(token - 2, token + 3) if name == "ModernBERT" else range(token - 2, token + 1)
            assert reached == set(near) & set(range(ids.shape[1])), token


def test_counts_follow_the_formula(tiny_bert: Path, tiny_llama: Path) -> None:
    for path, num_layers, heads in ((tiny_bert, 3, 4), (tiny_llama, 4, 2)):
        for layers, changed in (("all", num_layers), (2, 2)):
            applied = with_prefix(load_backbone(str(path)).model, num_tokens=5, layers=layers)
            count = sum(parameter.numel() for parameter in applied.named_parameters().values())
            assert count == changed * 5 * 2 * heads * 8
            assert applied.num_virtual_tokens == 0


def test_it_starts_as_wide_as_asked(tiny_bert: Path) -> None:
    applied = with_prefix(load_backbone(str(tiny_bert)).model, std=0.3, num_tokens=64)
    numbers = torch.cat([parameter.flatten() for parameter in applied.named_parameters().values()])
    assert float(numbers.std().detach()) == pytest.approx(0.3, rel=0.03)


@torch.no_grad()
def test_other_models_of_the_same_config_stay_as_they_are(tiny_bert: Path) -> None:
    from transformers import BertModel

    model: Any = load_backbone(str(tiny_bert)).model
    other = BertModel(model.config).eval()
    assert other.config is model.config
    before = other(**INPUTS).last_hidden_state
    applied = with_prefix(model, layers=1)
    tuned = model(**INPUTS).last_hidden_state
    assert torch.equal(other(**INPUTS).last_hidden_state, before)
    assert model.config._attn_implementation == "sdpa"
    layers = find_layers(model).layers
    assert all(layer.attention.self.config is model.config for layer in layers[:2])
    # A copy is switched off, changed and masked apart from its original.
    twin = copy.deepcopy(applied)
    assert torch.equal(twin.model(**INPUTS).last_hidden_state, tuned)
    with twin.disabled():
        assert torch.equal(model(**INPUTS).last_hidden_state, tuned)
        plain = load_backbone(str(tiny_bert)).model(**INPUTS).last_hidden_state
        assert torch.equal(twin.model(**INPUTS).last_hidden_state, plain)
    twin.model.set_attn_implementation("eager")
    torch.testing.assert_close(twin.model(**INPUTS).last_hidden_state, tuned, rtol=1e-5, atol=1e-5)
    assert torch.equal(model(**INPUTS).last_hidden_state, tuned)


@pytest.mark.slow
@torch.no_grad()
def test_an_attention_implementation_chosen_later_is_honoured_or_refused(tiny_llama: Path) -> None:
    model: Any = load_backbone(str(tiny_llama)).model
    with_prefix(model)
    tuned = model(**INPUTS).last_hidden_state
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(**INPUTS).last_hidden_state[MASK.bool()], tuned[MASK.bool()], rtol=1e-5, atol=1e-5)
    model.config._attn_implementation_internal = "flex_attention"
    with pytest.raises(InputError, match="cannot act on LlamaAttention with attn_implementation 'flex_attention'"):
        model(input_ids=IDS)


def test_prefixes_take_no_positions(tiny_bert: Path) -> None:
    config = EncoderConfig(max_tokens=64)
    encoder = TextEncoder(load_backbone(str(tiny_bert)), config, PrefixConfig(num_tokens=64))
    texts = encoder.tokenize(["wine cheese bread tea " * 20, "goat"])
    assert int(texts.lengths.max()) == 64
    assert bool(encoder.encode(texts).isfinite().all())
    with pytest.raises(InputError, match=r"method\.num_tokens is 65, longer than any text .* use at most 64"):
        PrefixConfig(num_tokens=65).apply(load_backbone(str(tiny_bert)).model)


@pytest.mark.parametrize("name", ["DebertaV2", "XLM"])
def test_a_backbone_that_does_its_own_attention_is_refused_by_name(name: str) -> None:
    import transformers as t

    if name == "DebertaV2":
        model: Any = t.DebertaV2Model(t.DebertaV2Config(**SMALL))
    else:
        model = t.XLMModel(t.XLMConfig(vocab_size=50, emb_dim=16, n_layers=2, n_heads=2))
    before = model.eval()(input_ids=IDS).last_hidden_state
    with pytest.raises(
        InputError, match=rf"prefix cannot act on {name}Model: the attention of layer 1 \(.*Attention.*\)"
    ):
        with_prefix(model, layers=1)
    assert torch.equal(model(input_ids=IDS).last_hidden_state, before)
    assert not [module for module in model.modules() if isinstance(module, Prefix) or "forward" in vars(module)]


def test_flash_attention_is_refused(tiny_bert: Path) -> None:
    model: Any = load_backbone(str(tiny_bert)).model
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(InputError, match=r"attn_implementation 'flash_attention_2'; use one of: sdpa, eager"):
        with_prefix(model)


@pytest.mark.parametrize("bits", [4, 8])
def test_on_a_quantised_backbone(bits: int, tiny_llama: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModel, BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4")
    model = AutoModel.from_pretrained(tiny_llama, quantization_config=settings)
    settle_quantized("tiny", model)
    before = model(**INPUTS).last_hidden_state
    applied = with_prefix(model)
    parameters = applied.named_parameters()
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    model(**INPUTS).last_hidden_state[:, 0, :3].sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in parameters.values())
    with applied.disabled():
        assert torch.equal(model(**INPUTS).last_hidden_state, before)
