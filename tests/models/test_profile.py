"""Users' texts: put together by hand, read in one pass, and carried into user vectors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.build import build
from peftrec.config import InputError, RecipeError
from peftrec.encoders import EncoderConfig, ItemTexts, TextEncoder, load_backbone, twin_backbone
from peftrec.methods import METHODS
from peftrec.models import ProfileConfig, ProfileTokens, build_profiles

ITEMS = ["small red wine", "large blue cheese", "green tea", "black rye bread"]
SETTINGS = {"max_tokens": 40, "item_tokens": 8, "attribute_tokens": 6}
HISTORIES = np.array([[-1, 0, 1, 2], [3, 2, 1, 0], [-1, -1, -1, 3], [-1, -1, -1, -1]])


@pytest.fixture(scope="module")
def tokenizers(backbones: dict[str, Path]) -> dict[str, Any]:
    return {family: load_backbone(str(path)).tokenizer for family, path in backbones.items()}


def make_tokens(tokenizer: Any, *, oldest_first: bool, words: Any = None, **settings: Any) -> ProfileTokens:
    return ProfileTokens(tokenizer, ProfileConfig(**{**SETTINGS, **settings}), ITEMS, words, oldest_first=oldest_first)


def rows(texts: ItemTexts) -> list[list[int]]:
    return [texts.tokens_T[start:end].tolist() for start, end in itertools.pairwise(texts.offsets.tolist())]


def test_encoders_read_the_newest_first(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bert"]
    tokens = make_tokens(tokenizer, oldest_first=False, separator=".")
    tokens.set_users(["dry oak", " "])
    found = tokens.assemble(HISTORIES[:2], None, np.array([0, 1]))
    written = [
        "dry oak. liked green tea. liked large blue cheese. liked small red wine.",
        "liked small red wine. liked large blue cheese. liked green tea. liked black rye bread.",
    ]
    assert rows(found.texts) == [tokenizer(text)["input_ids"] for text in written]
    assert (found.texts.num_cut, found.num_left_out) == (0, 0)
    # Without users' indexes nobody has attributes.
    assert rows(tokens.assemble(HISTORIES[1:2], None, None).texts) == rows(found.texts)[1:]


def test_what_does_not_fit_is_the_oldest(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bert"]
    tokens = make_tokens(tokenizer, oldest_first=False, max_tokens=22, separator=".")
    found = tokens.assemble(HISTORIES, None, None)
    whole = rows(make_tokens(tokenizer, oldest_first=False, separator=".").assemble(HISTORIES, None, None).texts)
    for row, full in zip(rows(found.texts), whole, strict=True):
        assert row == (full if len(full) <= 22 else [*full[:21], tokenizer.sep_token_id])
    assert found.texts.num_cut == sum(len(row) > 22 for row in whole) > 0
    assert found.num_left_out > 0


def test_decoders_read_the_oldest_first_and_leave_out_whole_events(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["llama"]
    tokens = make_tokens(tokenizer, oldest_first=True, max_tokens=40)
    tokens.set_users(["dry oak"])
    found = tokens.assemble(HISTORIES, None, np.array([0, -1, -1, -1]))
    events = [tokenizer(f" liked {item}")["input_ids"][:8] + tokenizer(";")["input_ids"] for item in ITEMS]
    attributes = tokenizer("dry oak")["input_ids"][:6] + tokenizer(";")["input_ids"]
    expected = [attributes + events[0] + events[1] + events[2], events[3] + events[2] + events[1] + events[0]]
    for number, full in enumerate(expected):
        kept = full
        oldest = [0, 3][number]
        if len(full) > 40:
            start = len(attributes) if number == 0 else 0
            kept = full[:start] + full[start + len(events[oldest]) :]
        assert rows(found.texts)[number] == kept
    assert rows(found.texts)[3] == []
    # Each end is the last token of its event.
    for row, ends in zip(rows(found.texts), found.ends_BL, strict=True):
        for end in ends[ends >= 0]:
            assert row[end] == tokenizer(";")["input_ids"][-1]
    assert (found.ends_BL[HISTORIES < 0] == -1).all()


def test_kinds_of_events_have_words(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bert"]
    tokens = make_tokens(
        tokenizer, oldest_first=False, words=("saw", "got"), separator=".", event_template="{item} ({event})"
    )
    found = tokens.assemble(np.array([[-1, 2, 0]]), np.array([[-1, 0, 1]]), None)
    assert rows(found.texts) == [tokenizer("small red wine (got). green tea (saw).")["input_ids"]]


def test_new_items_can_be_told_of(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bert"]
    tokens = make_tokens(tokenizer, oldest_first=False, words=("saw", "got"), separator=".")
    tokens.add_items(["goat cheese"])
    found = tokens.assemble(np.array([[1, 4]]), np.array([[1, 1]]), None)
    assert rows(found.texts) == [tokenizer("got goat cheese. got large blue cheese.")["input_ids"]]


def make_profiles(path: Path, *, budget: int = 64, method: Any = None, **settings: Any) -> Any:
    torch.manual_seed(0)
    backbone = load_backbone(str(path))
    spare = twin_backbone(backbone, (METHODS.load("frozen")(),))
    items = TextEncoder(backbone, EncoderConfig(max_tokens=16, token_budget=budget), METHODS.load("frozen")())
    config = ProfileConfig(**{**SETTINGS, "method": method or METHODS.load("lora")(rank=2), **settings})
    profiles = build_profiles(config, items, spare, ITEMS, None, 32)
    for name, parameter in profiles.encoder.method.named_parameters().items():
        torch.nn.init.normal_(parameter, std=0.1 if "lora" in name else 0.02)
    return profiles.eval()


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_vectors_are_those_of_the_text_alone(family: str, backbones: dict[str, Path]) -> None:
    """Of a decoder one pass gives what a pass for every shorter history would give."""
    profiles = make_profiles(backbones[family])
    wanted = HISTORIES >= 0
    plan = profiles.plan(HISTORIES, None, None, wanted)
    together = profiles.vectors(plan)
    places = list(zip(plan.row_R.tolist(), plan.place_R.tolist(), strict=True))
    if family == "llama":
        kept = profiles.tokens.assemble(HISTORIES, None, None).ends_BL >= 0
        assert places == [tuple(pair) for pair in np.argwhere(kept).tolist()]
    else:
        assert [row for row, _ in places] == [0, 1, 2]
    for vector, (row, place) in zip(together.vectors_RH, places, strict=True):
        history = HISTORIES[row, : place + 1].copy()
        if family == "llama":  # what was left out of the whole text is left out here too
            history[~kept[row, : place + 1]] = -1
        alone = make_profiles(backbones[family]).vectors(profiles.plan(history[None], None, None))
        torch.testing.assert_close(alone.vectors_RH[0], vector, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradients_do_not_depend_on_chunks_or_kept_graphs(family: str, backbones: dict[str, Path]) -> None:
    found = []
    for budget, graph_bytes in ((64, 0), (64, 2**40), (1024, 2**40)):
        profiles = make_profiles(backbones[family], budget=budget)
        torch.manual_seed(1)
        plan = profiles.plan(HISTORIES, None, None, HISTORIES >= 0)
        vectors = profiles.training_vectors(plan, graph_bytes=graph_bytes)
        weights = torch.randn(vectors.vectors_NH.shape, generator=torch.Generator().manual_seed(2))
        (vectors.vectors_NH * weights).sum().backward()
        vectors.backward()
        gradients = {name: p.grad for name, p in profiles.encoder.method.named_parameters().items()}
        assert all(gradient is not None for gradient in gradients.values())
        found.append((vectors.vectors_NH.detach(), gradients))
    for vectors, gradients in found[1:]:
        torch.testing.assert_close(vectors, found[0][0], rtol=1e-5, atol=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=1e-3, atol=1e-4)


def test_encoders_draw_one_place_a_user(backbones: dict[str, Path]) -> None:
    profiles = make_profiles(backbones["bert"])
    wanted = np.array([[False, True, True, False], [True] * 4, [False] * 4, [False] * 4])
    seen: set[tuple[int, int]] = set()
    for _ in range(60):
        plan = profiles.plan(HISTORIES, None, None, wanted)
        assert plan.row_R.tolist() == [0, 1]
        seen |= set(zip(plan.row_R.tolist(), plan.place_R.tolist(), strict=True))
    assert seen == {(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)}


def test_equal_texts_are_encoded_once_until_weights_change(
    backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = make_profiles(backbones["bert"])
    calls: list[int] = []
    encode = profiles._encode
    monkeypatch.setattr(profiles, "_encode", lambda *arguments: (calls.append(1), encode(*arguments))[1])
    plan = profiles.plan(HISTORIES, None, None)
    first = profiles.vectors(plan).vectors_RH
    count = len(calls)
    assert torch.equal(profiles.vectors(plan).vectors_RH, first)
    assert len(calls) == count > 0
    profiles.forget()
    profiles.vectors(plan)
    assert len(calls) == 2 * count


def test_two_adapters_stand_on_the_same_weights(tiny_bert: Path) -> None:
    backbone = load_backbone(str(tiny_bert))
    lora, full = METHODS.load("lora")(rank=2), METHODS.load("full")()
    shared = twin_backbone(backbone, (lora, lora))
    assert all(a is b for a, b in zip(backbone.model.parameters(), shared.model.parameters(), strict=True))
    assert shared.model is not backbone.model
    apart = twin_backbone(backbone, (lora, full))
    assert not any(a is b for a, b in zip(backbone.model.parameters(), apart.model.parameters(), strict=True))
    first, second = lora.apply(backbone.model), lora.apply(shared.model)
    # A second adapter switches no gradient of the first one off.
    both = [*first.named_parameters().values(), *second.named_parameters().values()]
    assert all(parameter.requires_grad for parameter in both)
    assert len(set(map(id, both))) == 2 * len(first.named_parameters())


PROFILE = "profile={method: {kind: lora, rank: 4}, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}"


def test_the_start_is_the_history_or_the_similarity_of_texts(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    plain = build(make_recipe(), toy_dataset).model.eval()
    vectors, bias = plain.encode_catalogue()
    histories = torch.tensor([[-1, 3, 4], [7, 8, 9]])
    added = build(make_recipe(PROFILE), toy_dataset).model.eval()
    torch.testing.assert_close(added.scores(histories, vectors, bias), plain.scores(histories, vectors, bias))
    alone = build(make_recipe(PROFILE, "profile.fusion=alone"), toy_dataset).model.eval()
    text = alone.profiles.vectors(alone.profiles.plan(histories.numpy(), None, None)).vectors_RH
    expected = alone.item_encoder.unit_axes(text) @ vectors.T * alone.scale()
    torch.testing.assert_close(alone.scores(histories, vectors, bias), expected, rtol=1e-4, atol=1e-4)


def test_bad_settings(make_recipe: Callable[..., Any], toy_dataset: Any, backbones: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match=r"profile\.max_tokens: 20 has no room .* use at least 56"):
        make_recipe("profile={max_tokens: 20}")
    with pytest.raises(RecipeError, match=r"profile\.event_template: '\{thing\}' must hold \{item\} once"):
        make_recipe("profile={event_template: '{thing}'}")
    with pytest.raises(RecipeError, match="profile: is read by the language model of the items"):
        make_recipe("profile={}", "encoder.inputs=ids", "encoder.embedding_dim=8")
    with pytest.raises(RecipeError, match=r"data\.event_words: is read by nothing; add a section profile"):
        make_recipe("data.event_words={view: saw}")
    with pytest.raises(InputError, match=r"profile\.max_tokens is 80, but .* has 64 positions"):
        build(make_recipe("profile={max_tokens: 80, method: null}"), toy_dataset)
    with pytest.raises(InputError, match=r"profile\.method\.kind: 'side' gives one vector a text"):
        make_profiles(backbones["llama"], method=METHODS.load("side")(width=4))
