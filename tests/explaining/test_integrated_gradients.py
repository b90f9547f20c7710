"""Words that carry a score: with every method, what they add up to is the score less that of a text without them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import CatalogueText, EncoderConfig, ItemEncoder, TextEncoder, load_backbone
from peftrec.explaining import Subject, attribute_words
from peftrec.methods import METHODS
from peftrec.models import SCORERS, USER_ENCODERS, RecommenderModel

TEXTS = ("small red wine. wine", "large goat cheese, aged", "green tea", "flat bread: a rye one")
SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"reduction_factor": 4.0},
    "oft": {"block_size": 8},
    "vera": {"rank": 8},
    "peft": {"peft_type": "LOHA", "settings": {"r": 2, "alpha": 4}},
    "prompt": {"num_tokens": 3},
    "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "side": {"width": 8},
    "adalora": {"initial_rank": 4, "target_rank": 2},
}


def make(folder: Path, kind: str = "lora", scorer: str = "cosine", **encoder: Any) -> RecommenderModel:
    torch.manual_seed(0)
    config = EncoderConfig(**{"inputs": "text", "max_tokens": 24, "whitening": False, "residual_dim": 8, **encoder})
    texts = TextEncoder(load_backbone(str(folder)), config, METHODS.load(kind)(**SETTINGS.get(kind, {})))
    has_id = torch.ones(len(TEXTS), dtype=torch.bool) if config.uses_ids else None
    items = ItemEncoder(config, texts.dim, has_id)
    model = RecommenderModel(CatalogueText(texts, TEXTS), items, USER_ENCODERS.load("mean")(), SCORERS.load(scorer)())
    # Away from the start, so that the method and the head count.
    with torch.no_grad():
        for parameter in [*texts.method.named_parameters().values(), *model.head_parameters(), *model.id_parameters()]:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def user_of(model: RecommenderModel) -> torch.Tensor:
    vectors, _ = model.encode_catalogue()
    return model.newest_user_vectors(torch.tensor([[0, 2]]), vectors)


def scores_of(model: RecommenderModel) -> torch.Tensor:
    return model.scores(torch.tensor([[0, 2]]), *model.encode_catalogue())[0]


# A Llama has no biases that BitFit could train.
CASES = [(k, family) for k in METHODS.kinds() for family in ("bert", "llama") if (k, family) != ("bitfit", "llama")]
# One decoder of every make; the others with the longer checks.
QUICK = ("lora", "adapter", "prefix", "side", "full")
CASES_MARKED = [
    pytest.param(k, family, marks=() if family == "bert" or k in QUICK else pytest.mark.slow) for k, family in CASES
]


@pytest.mark.parametrize(("kind", "family"), CASES_MARKED)
def test_attributions_add_up_with_every_method(kind: str, family: str, backbones: dict[str, Path]) -> None:
    model = make(backbones[family], kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # States that were stored for training are passed by: words stand before them.
    assert model.catalogue_text is not None
    model.catalogue_text.store_trunk()
    found = attribute_words(model, Subject(TEXTS[1], 1), user_of(model), tolerance=0.005)
    assert found.complete, found
    assert found.score == pytest.approx(float(scores_of(model)[1]), abs=1e-4)
    total = sum(word.attribution for word in found.words)
    assert total + found.residual == pytest.approx(found.score - found.baseline_score, abs=1e-6)
    assert total == pytest.approx(found.score - found.baseline_score, abs=0.01 * max(1, abs(total)))
    assert [word.text for word in found.words] == ["large", "goat", "cheese", ",", "aged"]
    assert all(TEXTS[1][word.start : word.end] == word.text for word in found.words)
    assert max(abs(word.attribution) for word in found.words) > 1e-3
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "attention"])
@pytest.mark.parametrize("scorer", SCORERS.kinds())
def test_attributions_add_up_with_every_head(pooling: str, scorer: str, tiny_bert: Path) -> None:
    model = make(tiny_bert, scorer=scorer, pooling=pooling, inputs="text+ids", item_bias=True, prefix="flat: ")
    for parameter in [
        *model.pooling_parameters(),
        *([] if model.second_stage is None else model.second_stage.parameters()),
    ]:
        torch.nn.init.normal_(parameter, std=0.2)
    model.weights_changed()
    found = attribute_words(model, Subject(TEXTS[3], 3), user_of(model))
    assert found.complete
    assert found.score == pytest.approx(float(scores_of(model)[3]), abs=1e-4)


def test_a_new_item_has_no_id(tiny_bert: Path) -> None:
    model = make(tiny_bert, inputs="text+ids")
    vectors = model.encode_new_items(["small goat tea"])
    user = user_of(model)
    found = attribute_words(model, Subject("small goat tea", None), user)
    assert found.score == pytest.approx((model.scale() * user[0] @ vectors[0]).item(), abs=1e-4)
    assert found.score != pytest.approx(attribute_words(model, Subject("small goat tea", 1), user).score, abs=1e-3)


def test_each_word_has_what_a_plain_sum_over_the_path_gives(tiny_bert: Path) -> None:
    model = make(tiny_bert)
    encoder, user = model.text_encoder, user_of(model)
    assert encoder is not None
    tokens = encoder.backbone.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    without = tokens.clone()
    without[0, 1:-1] = encoder.backbone.tokenizer.pad_token_id
    embed = encoder.backbone.model.get_input_embeddings()
    start, end = embed(without).detach(), embed(tokens).detach()
    steps = 150
    total = torch.zeros_like(end)
    for step in range(steps):
        point = (start + (step + 0.5) / steps * (end - start)).requires_grad_()
        states = encoder.model(inputs_embeds=point).last_hidden_state
        item = model.item_vectors(states.mean(1), torch.tensor([0]))
        (gradient,) = torch.autograd.grad(model.scale() * (item[0] @ user[0]), point)
        total += gradient / steps
    expected = ((end - start) * total).sum(-1)[0, 1:-1]
    found = attribute_words(model, Subject(TEXTS[0], 0), user, tolerance=1e-4)
    assert [word.text for word in found.words] == ["small", "red", "wine", ".", "wine"]
    np.testing.assert_allclose([word.attribution for word in found.words], expected, atol=2e-3)
    with torch.no_grad():
        item = model.item_vectors(encoder.model(input_ids=without).last_hidden_state.mean(1), torch.tensor([0]))
        assert found.baseline_score == pytest.approx(float(model.scale() * (item[0] @ user[0])), abs=1e-4)


def test_too_few_steps_are_told(tiny_llama: Path) -> None:
    model = make(tiny_llama)
    user = user_of(model)
    rough = attribute_words(model, Subject(TEXTS[1], 1), user, tolerance=1e-9, most_steps=16)
    assert not rough.complete
    assert rough.num_steps == 16
    finer = attribute_words(model, Subject(TEXTS[1], 1), user, tolerance=1e-9, most_steps=64)
    assert finer.num_steps == 64
    assert abs(finer.residual) < abs(rough.residual) + 1e-6


def test_chunks_change_nothing(tiny_bert: Path) -> None:
    together, apart = make(tiny_bert), make(tiny_bert, token_budget=24)
    found = [attribute_words(model, Subject(TEXTS[0], 0), user_of(model)) for model in (together, apart)]
    np.testing.assert_allclose(*([word.attribution for word in one.words] for one in found), atol=1e-5)


def test_what_cannot_be_asked_is_refused(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(tiny_bert)
    user = user_of(model)
    with pytest.raises(InputError, match="NaN or infinite"):
        attribute_words(model, Subject(TEXTS[0], 0), user * torch.nan)
    ids = ItemEncoder(EncoderConfig(inputs="ids", embedding_dim=32), 0, torch.ones(4, dtype=torch.bool))
    of_ids = RecommenderModel(None, ids, USER_ENCODERS.load("mean")(), SCORERS.load("dot")())
    with pytest.raises(InputError, match="reads no texts"):
        attribute_words(of_ids, Subject("x", 0), user)
    assert model.text_encoder is not None
    backbone = model.text_encoder.backbone
    monkeypatch.setattr(model.text_encoder, "backbone", dataclasses.replace(backbone, model=torch.nn.Identity()))
    with pytest.raises(InputError, match="does not tell which of its modules embeds tokens"):
        attribute_words(model, Subject(TEXTS[0], 0), user)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InputError, match=r"pip install 'peftrec\[explain\]'"):
        attribute_words(model, Subject(TEXTS[0], 0), user)
