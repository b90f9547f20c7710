"""Explanations whole: what is in them, for each sort of user and of run, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import CatalogueText, EncoderConfig, ItemEncoder, TextEncoder, load_backbone
from peftrec.explaining import Explained, SentenceTemplates, Subject, describe_explanations, explain
from peftrec.methods import METHODS
from peftrec.models import SCORERS, USER_ENCODERS, RecommenderModel, scores_with
from peftrec.retrieval import Asked

TEXTS = ("small red wine", "large goat cheese", "green tea", "flat rye bread", "white wine")
IDS = ("w", "c", "t", "b", "v")
TITLES = ("Wine {red}", "Cheese\n", "", "Bread", "White")


@pytest.fixture(scope="module")
def explained(tiny_bert: Path) -> Explained:
    torch.manual_seed(0)
    config = EncoderConfig(inputs="text", max_tokens=16, whitening=False, residual_dim=8)
    texts = TextEncoder(load_backbone(str(tiny_bert)), config, METHODS.load("lora")(rank=2))
    user = USER_ENCODERS.load("attention")(max_history=3)
    items = ItemEncoder(config, texts.dim, None)
    model = RecommenderModel(CatalogueText(texts, TEXTS), items, user, SCORERS.load("cosine")())
    with torch.no_grad():
        for parameter in model.head_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    scores = scores_with(model.eval(), *model.encode_catalogue())
    counts = torch.tensor([5.0, 0.0, 3.0, 1.0, 2.0])
    return Explained(scores, IDS, TITLES, counts, lambda item: Subject(TEXTS[item], item))


def ask(history: list[int], *, told: bool = False) -> Asked:
    return Asked(np.array([history or [-1]]), None, None, None, np.array([not history and not told]))


def test_an_explanation_holds_what_carries_the_score(explained: Explained) -> None:
    history = [2, 0, 1, 0]
    wine, bread = explain(explained, ask(history), np.array([4, 3]), words=True)
    assert (wine.item_id, wine.title, wine.basis) == ("v", "White", "history")
    scores = explained.scores(np.array([history]))[0]  # type: ignore[operator]
    assert [wine.score, bread.score] == pytest.approx([float(scores[4]), float(scores[3])], abs=1e-5)
    for one in (wine, bread):
        assert sorted(event.event for event in one.evidence) == [0, 1, 2, 3]
        assert all(event.item_id == IDS[history[event.event]] for event in one.evidence)
        assert all(event.title == TITLES[history[event.event]] for event in one.evidence)
        changes = [event.change for event in one.evidence]
        assert changes == sorted(changes, reverse=True)
        # Only the newest three events are read.
        by_event = {event.event: event for event in one.evidence}
        assert (by_event[0].change, by_event[0].attention) == (0.0, None)
        assert sum(by_event[event].attention or 0 for event in (1, 2, 3)) == pytest.approx(1)
        assert one.words is not None
        assert one.word_attribution is not None
        assert one.words == one.word_attribution.words
        assert one.word_attribution.score == pytest.approx(one.score, abs=1e-4)
        assert one.sentence.endswith(".")
    assert [word.text for word in wine.words or ()] == ["white", "wine"]
    shorter = explained.scores(np.array([[2, 0, 1]]))[0]  # type: ignore[operator]
    newest = next(event for event in wine.evidence if event.event == 3)
    assert newest.change == pytest.approx(float(scores[4] - shorter[4]), abs=1e-5)


def test_evidence_can_be_limited_to_the_strongest(explained: Explained) -> None:
    (whole,) = explain(explained, ask([2, 0, 1, 0]), np.array([4]))
    (two,) = explain(explained, ask([2, 0, 1, 0]), np.array([4]), num_evidence=2)
    strongest = sorted(whole.evidence, key=lambda event: -abs(event.change))[:2]
    assert set(two.evidence) == set(strongest)
    assert len(whole.evidence) == 4
    assert whole.words is None
    assert whole.word_attribution is None
    with pytest.raises(InputError, match="num_evidence is 0"):
        explain(explained, ask([1]), np.array([4]), num_evidence=0)


def test_who_has_no_history_gets_no_reason_from_one(explained: Explained) -> None:
    popular, cold = explain(explained, ask([]), np.array([0, 1]), words=True)
    assert (popular.basis, popular.score, popular.evidence, popular.words) == ("popularity", 5.0, (), None)
    assert popular.sentence == cold.sentence == "Popular: nothing is known of you yet."
    (told,) = explain(explained, ask([], told=True), np.array([0]))
    assert (told.basis, told.evidence) == ("attributes", ())
    assert told.sentence == "From what is known of you; there is no history."


def test_explanations_are_plain_json(explained: Explained) -> None:
    rows = describe_explanations(explain(explained, ask([0, 2]), np.array([4, 4]), words=True))
    again = json.loads(json.dumps(rows, allow_nan=False))
    assert again == json.loads(json.dumps(rows))
    assert rows[0] == rows[1]
    assert set(rows[0]["evidence"][0]) == {"item_id", "title", "event", "change", "attention"}
    assert set(rows[0]["words"][0]) == {"text", "start", "end", "attribution"}
    assert set(rows[0]["word_attribution"]) == {"score", "baseline_score", "residual", "num_steps", "complete"}
    assert explain(explained, ask([0]), np.array([], dtype=np.int64)) == []


def test_sentences_can_be_given(explained: Explained) -> None:
    templates = SentenceTemplates(history="Wegen {items}", nothing="Kein Grund", against="dagegen: {items}")
    (found,) = explain(explained, ask([0]), np.array([0]), templates=templates)
    assert found.sentence.startswith(("Wegen Wine {red}", "Kein Grund"))


def test_the_encoder_is_used_in_turn(explained: Explained) -> None:
    import contextlib
    import dataclasses

    turns: list[str] = []

    @contextlib.contextmanager
    def turn() -> Any:
        turns.append("begun")
        yield
        turns.append("ended")

    watched = dataclasses.replace(explained, turn=turn)
    explain(watched, ask([0]), np.array([1, 2]))
    assert not turns
    explain(watched, ask([0]), np.array([1, 2, 1]), words=True)
    assert turns == ["begun", "ended"] * 2


def test_words_of_what_is_no_model_are_refused(explained: Explained) -> None:
    import dataclasses

    def scores(histories: Any, *_: Any) -> torch.Tensor:
        return torch.ones(len(histories), len(IDS))

    baseline = dataclasses.replace(explained, scores=scores)
    (found,) = explain(baseline, ask([0, 1]), np.array([2]))
    assert [event.change for event in found.evidence] == [0.0, 0.0]
    assert [event.event for event in found.evidence] == [1, 0]  # of equal ones the newer first
    assert found.sentence == "No single item of your history carries this."
    with pytest.raises(InputError, match="a baseline, which has no gradients, or an ensemble"):
        explain(baseline, ask([0]), np.array([1]), words=True)
