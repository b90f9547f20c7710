"""What every user encoder promises: no look ahead, padding that changes nothing, histories cut to the newest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peftrec.encoders import EncoderConfig, ItemEncoder
from peftrec.models import SCORERS, USER_ENCODERS, RecommenderModel

KINDS = USER_ENCODERS.kinds()
DIM, NUM_ITEMS = 8, 20
# Variants beside the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "transformer": [{"num_heads": 2}, {"num_heads": 2, "num_layers": 2, "recency_start": False}],
    "mean": [{}, {"decay": 0.5, "learned": True}],
}
CASES = [(kind, number) for kind in KINDS for number in range(len(SETTINGS.get(kind, [{}])))]
pytestmark = pytest.mark.parametrize(("kind", "variant"), CASES)


def make(kind: str, variant: int, max_history: int = 6, scorer: str = "cosine") -> RecommenderModel:
    torch.manual_seed(0)
    settings = SETTINGS.get(kind, [{}])[variant]
    items = ItemEncoder(
        EncoderConfig(inputs="ids", embedding_dim=DIM, id_std=1.0), 0, torch.ones(NUM_ITEMS, dtype=torch.bool)
    )
    user = USER_ENCODERS.load(kind)(max_history=max_history, **settings)
    model = RecommenderModel(None, items, user, SCORERS.load(scorer)())
    # Away from the start, so that every part of the encoder counts.
    for parameter in model.user_encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def user_vectors(model: RecommenderModel, histories: list[list[int]]) -> torch.Tensor:
    with torch.no_grad():
        vectors, _ = model.encode_catalogue()
        return model.user_vectors(vectors, torch.tensor(histories))


def test_never_looks_ahead(kind: str, variant: int) -> None:
    model = make(kind, variant)
    before = user_vectors(model, [[1, 2, 3, 4, 5], [-1, -1, 3, 4, 5]])
    for place in range(1, 5):
        changed = [[1, 2, 3, 4, 5], [-1, -1, 3, 4, 5]]
        for row in changed:
            row[place] = 9
        after = user_vectors(model, changed)
        torch.testing.assert_close(after[0, :place], before[0, :place], rtol=0, atol=1e-6)
        assert float((after[:, -1] - before[:, -1]).abs().max()) > 1e-6


def test_no_gradient_from_later_places(kind: str, variant: int) -> None:
    model = make(kind, variant)
    items = torch.randn(1, 5, DIM, requires_grad=True)
    out = model.user_encoder(items, torch.ones(1, 5, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(out[0, 2].sum(), items)
    assert not bool(gradient[0, 3:].any())
    assert bool(gradient[0, :3].any())


def test_padding_on_the_left_changes_nothing(kind: str, variant: int) -> None:
    model = make(kind, variant)
    short = user_vectors(model, [[7, 3, 5]])
    padded = user_vectors(model, [[-1, -1, 7, 3, 5], [1, 2, 7, 3, 5]])
    torch.testing.assert_close(padded[:1, -3:], short, rtol=1e-5, atol=1e-6)
    assert bool(torch.isfinite(padded).all())


def test_what_stands_at_padded_places_is_not_used(kind: str, variant: int) -> None:
    encoder = make(kind, variant).user_encoder
    items = torch.randn(1, 5, DIM)
    valid = torch.tensor([[False, False, True, True, True]])
    other = items.clone()
    other[0, :2] = 100.0
    with torch.no_grad():
        torch.testing.assert_close(encoder(other, valid)[0, 2:], encoder(items, valid)[0, 2:], rtol=1e-5, atol=1e-6)


def test_an_empty_history_is_defined(kind: str, variant: int) -> None:
    for scorer in SCORERS.kinds():
        model = make(kind, variant, scorer=scorer)
        vectors, bias = model.encode_catalogue()
        for histories in ([[-1]], [[-1, -1, -1]]):
            assert not bool(model.scores(torch.tensor(histories), vectors, bias).any())
        mixed = model.scores(torch.tensor([[-1, -1, -1], [-1, 2, 3]]), vectors, bias)
        assert bool(torch.isfinite(mixed).all())
        torch.testing.assert_close(mixed[1:], model.scores(torch.tensor([[2, 3]]), vectors, bias), rtol=1e-5, atol=1e-5)


def test_only_the_newest_events_are_read(kind: str, variant: int) -> None:
    model = make(kind, variant, max_history=3)
    vectors, bias = model.encode_catalogue()
    long = model.scores(torch.tensor([[9, 8, 7, 1, 2, 3], [-1, -1, 7, 1, 2, 3]]), vectors, bias)
    short = model.scores(torch.tensor([[1, 2, 3]]), vectors, bias)
    torch.testing.assert_close(long, short.expand(2, -1))
    other = model.scores(torch.tensor([[7, 1, 2, 4]]), vectors, bias)
    assert float((other - short).abs().max()) > 1e-6


def test_batch_mates_do_not_matter(kind: str, variant: int) -> None:
    model = make(kind, variant)
    histories = [[1, 2, 3, 4], [-1, 5, 5, 6], [-1, -1, -1, 7]]
    together = user_vectors(model, histories)
    alone = torch.cat([user_vectors(model, [row]) for row in histories])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_saved_state_gives_the_same(kind: str, variant: int) -> None:
    model, fresh = make(kind, variant), make(kind, variant)
    for parameter in fresh.user_encoder.parameters():
        torch.nn.init.zeros_(parameter)
    fresh.load_trained_state(model.trained_state())
    assert torch.equal(user_vectors(fresh, [[1, 2, 3]]), user_vectors(model, [[1, 2, 3]]))
