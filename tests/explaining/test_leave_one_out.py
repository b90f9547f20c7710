"""What events do for scores: as if each list had been made again without one of them, for whatever makes lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, ItemEncoder
from peftrec.explaining import attention_of, leave_one_out
from peftrec.models import SCORERS, USER_ENCODERS, CatalogueScores, RecommenderModel, scores_with
from peftrec.retrieval import Asked, Fusion

DIM, NUM_ITEMS, MAX_HISTORY = 8, 20, 6
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "transformer": [
        {"num_heads": 2},
        {"num_heads": 2, "num_layers": 2, "positions": "learned", "time_intervals": True},
    ],
    "hstu": [{"num_heads": 2}],
    "attention": [{}, {"pooling": "multi_head", "num_heads": 2}],
}
CASES = [(kind, settings) for kind in USER_ENCODERS.kinds() for settings in SETTINGS.get(kind, [{}])]
# Shorter than what is read, as long, one and several events longer; with repeats.
HISTORIES = ([3], [4, 9, 4], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6], [7, 3, 1, 3, 9, 9, 2, 11, 3, 12])
ITEMS = np.array([0, 19, 3, 3, 7])


def make(kind: str, settings: dict[str, Any], scorer: str = "cosine") -> CatalogueScores:
    torch.manual_seed(0)
    config = EncoderConfig(inputs="ids", embedding_dim=DIM, id_std=1.0, item_bias=True)
    items = ItemEncoder(config, 0, torch.ones(NUM_ITEMS, dtype=torch.bool))
    torch.nn.init.normal_(items.bias)
    user = USER_ENCODERS.load(kind)(max_history=MAX_HISTORY, **settings)
    extra = {"num_candidates": 8, "hidden_dim": 4} if scorer == "mlp" else {}
    model = RecommenderModel(None, items, user, SCORERS.load(scorer)(**extra)).eval()
    for module in (model.user_encoder, model.second_stage):
        for parameter in [] if module is None else module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return scores_with(model, *model.encode_catalogue())


def ask(history: list[int], times: list[int] | None = None) -> Asked:
    rows = np.array([[-1, *history]], dtype=np.int64)
    moments = None if times is None else np.array([[-1, *times]], dtype=np.int64)
    return Asked(rows, None, None, moments, np.array([not history]))


def naive(scores: Any, history: list[int], times: list[int] | None, items: np.ndarray) -> np.ndarray:
    """Score each shortened history by itself."""

    def score(events: list[int]) -> np.ndarray:
        rows = np.array([[history[event] for event in events] or [-1]], dtype=np.int64)
        moments = None if times is None else np.array([[times[event] for event in events] or [-1]], dtype=np.int64)
        found: np.ndarray = scores(rows, None, None, moments)[0].double().numpy()[items]
        return found

    events = list(range(len(history)))
    return np.stack([score(events) - score(events[:event] + events[event + 1 :]) for event in events])


@pytest.mark.parametrize(("kind", "settings"), CASES)
@pytest.mark.parametrize("scorer", SCORERS.kinds())
def test_changes_are_those_of_lists_made_again(kind: str, settings: dict[str, Any], scorer: str) -> None:
    scores = make(kind, settings, scorer)
    for history in HISTORIES:
        times = [1_700_000_000_000 + 50_000 * n**3 for n in range(len(history))] if scores.model.needs_times else None
        found = leave_one_out(scores, ask(history, times), ITEMS, NUM_ITEMS)
        whole = scores(np.array([history]), None, None, None if times is None else np.array([times]))[0]
        np.testing.assert_allclose(found.scores_K, whole.numpy()[ITEMS], atol=1e-4)
        np.testing.assert_allclose(found.changes_LK, naive(scores, history, times, ITEMS), atol=2e-4)
        assert (found.changes_LK[: max(0, len(history) - MAX_HISTORY)] == 0).all()
        assert np.abs(found.changes_LK[-1]).max() > 1e-3


class Sums:
    """A baseline whose scores depend on the whole history, and on how often an item is there."""

    def __call__(self, histories_BL: np.ndarray, *_: Any) -> torch.Tensor:
        counts = torch.zeros(len(histories_BL), NUM_ITEMS + 1)
        rows = torch.from_numpy(np.where(histories_BL < 0, NUM_ITEMS, histories_BL))
        counts.scatter_add_(1, rows, torch.ones_like(rows, dtype=torch.float32))
        return counts[:, :NUM_ITEMS] @ torch.arange(NUM_ITEMS**2).view(NUM_ITEMS, NUM_ITEMS).float().cos()


def test_whatever_scores_histories_is_asked_for_whole_ones() -> None:
    history = [int(item) for item in np.random.default_rng(0).integers(0, NUM_ITEMS, 90)]
    found = leave_one_out(Sums(), ask(history), ITEMS, NUM_ITEMS)
    assert (found.changes_LK != 0).all()
    np.testing.assert_allclose(found.changes_LK, naive(Sums(), history, None, ITEMS), atol=1e-4)


@pytest.mark.parametrize("by", ["score", "rank"])
def test_an_ensemble_is_asked_as_it_makes_lists(by: Any) -> None:
    fusion, members = Fusion(by, (0.3, 0.7)), (make("mean", {}), make("attention", {}))

    def fused(*told: Any) -> torch.Tensor:
        return fusion.combine([fusion.part(member(*told)) for member in members])

    for history in HISTORIES:
        found = leave_one_out(fused, ask(history), ITEMS, NUM_ITEMS)
        np.testing.assert_allclose(found.changes_LK, naive(fused, history, None, ITEMS), atol=2e-4)


def test_an_empty_history_has_nothing_to_leave_out() -> None:
    found = leave_one_out(make("mean", {}), ask([]), ITEMS, NUM_ITEMS)
    assert found.changes_LK.shape == (0, len(ITEMS))
    assert found.scores_K.shape == (len(ITEMS),)


def test_scores_without_order_are_refused() -> None:
    scores = make("mean", {})
    scores.vectors_ND[3] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        leave_one_out(scores, ask([1, 2]), np.array([3]), NUM_ITEMS)


def test_attention_of_one_layer_is_what_its_values_are_mixed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = make("transformer", {"num_heads": 2})
    history = HISTORIES[-1]
    weights = attention_of(scores, ask(history))
    assert weights is not None
    assert np.isnan(weights[:-MAX_HISTORY]).all()
    assert weights[-MAX_HISTORY:].sum() == pytest.approx(1)
    assert (weights[-MAX_HISTORY:] > 0).all()
    # Attention as a product shows its weights where the values are unit vectors.
    block = scores.model.user_encoder.blocks[0]
    seen: list[torch.Tensor] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **keywords: Any) -> torch.Tensor:
        places = torch.eye(key.shape[2]).expand(*key.shape[:2], -1, -1)
        seen.append(attend(query, key, places, **keywords))
        return attend(query, key, value, **keywords)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    scores(np.array([history]))
    assert block.num_heads == 2
    np.testing.assert_allclose(weights[-MAX_HISTORY:], seen[-1][0, :, -1].mean(0).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS["attention"])
def test_attention_pooling_shows_its_weights(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from peftrec.models import attention

    scores, pool, seen = make("attention", settings), attention._pool, []

    def spy(scores_PA: torch.Tensor, values_PD: torch.Tensor, places: Any) -> torch.Tensor:
        seen.append(scores_PA)
        return pool(scores_PA, values_PD, places)

    weights = attention_of(scores, ask([4, 9, 4]))
    monkeypatch.setattr(attention, "_pool", spy)
    scores(np.array([[4, 9, 4]]))
    assert weights is not None
    np.testing.assert_allclose(weights, seen[0].softmax(0).mean(1).detach().numpy(), atol=1e-6)
    assert weights[0] == pytest.approx(weights[2])  # pooling knows no order


@pytest.mark.parametrize(("kind", "settings"), [("mean", {}), ("gru", {}), ("hstu", {"num_heads": 2})])
def test_encoders_without_shares_have_no_attention(kind: str, settings: dict[str, Any]) -> None:
    assert attention_of(make(kind, settings), ask([1, 2])) is None


def test_no_attention_where_there_is_nothing_to_attend_to() -> None:
    assert attention_of(make("attention", {}), ask([])) is None
    assert attention_of(Sums(), ask([1])) is None


def test_attention_that_reaches_nothing_is_not_shown() -> None:
    scores = make("attention", {})
    torch.nn.init.zeros_(scores.model.user_encoder.out.weight)
    assert attention_of(scores, ask([1, 2])) is None
