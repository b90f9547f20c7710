"""What every user encoder promises: no look ahead, padding that changes nothing, histories cut to the newest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, ItemEncoder
from peftrec.models import SCORERS, USER_ENCODERS, RecommenderModel, places
from peftrec.models.whole_places import WholePlaces

KINDS = USER_ENCODERS.kinds()
DIM, NUM_ITEMS = 8, 20
NOW = 1_700_000_000_000
# Variants beside the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "transformer": [
        {"num_heads": 2},
        {"num_heads": 2, "num_layers": 2, "recency_start": False},
        {"num_heads": 2, "positions": "learned"},
        {"num_heads": 2, "positions": "none"},
        {"num_heads": 2, "time_intervals": True},
        {"num_heads": 2, "num_layers": 2, "positions": "none", "time_intervals": True, "recency_start": False},
    ],
    "hstu": [
        {"num_heads": 2},
        {"num_heads": 4, "num_layers": 1, "recency_start": False},
        {"num_heads": 2, "time_intervals": True},
    ],
    "gru": [{}, {"num_layers": 2, "state_dim": 5, "recency_start": False}],
    "attention": [
        {},
        {"pooling": "multi_head"},
        {"pooling": "multi_head", "num_heads": 2, "recency_start": False},
        {"recency_start": False},
    ],
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


def test_is_counted_without_being_made(kind: str, variant: int) -> None:
    """Estimates count parameters of a module that holds no numbers."""
    settings = SETTINGS.get(kind, [{}])[variant]
    config = USER_ENCODERS.load(kind)(max_history=6, **settings)
    with torch.device("meta"):
        counted = config.build(DIM)
    assert all(parameter.is_meta for parameter in counted.parameters())
    shapes = [tuple(parameter.shape) for parameter in config.build(DIM).parameters()]
    assert [tuple(parameter.shape) for parameter in counted.parameters()] == shapes


def times_of(histories: torch.Tensor) -> torch.Tensor:
    """Give each event a time by its distance from the newest place, -1 for padding."""
    from_newest = histories.shape[1] - 1 - torch.arange(histories.shape[1])
    times = NOW - 7_000 * from_newest**5
    return torch.where(histories >= 0, times, -1)


def user_vectors(
    model: RecommenderModel, histories: list[list[int]], times: torch.Tensor | None = None
) -> torch.Tensor:
    rows = torch.tensor(histories)
    with torch.no_grad():
        vectors, _ = model.encode_catalogue()
        return model.user_vectors(vectors, rows, times_BL=times_of(rows) if times is None else times)


def encode(model: RecommenderModel, items: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    assert model.user_encoder is not None
    times = (times_of(valid.long() - 1),) if model.needs_times else ()
    found: torch.Tensor = model.user_encoder(items, valid, *times)
    return found


def scores(model: RecommenderModel, histories: list[list[int]]) -> torch.Tensor:
    rows = torch.tensor(histories)
    vectors, bias = model.encode_catalogue()
    return model.scores(rows, vectors, bias, times_BL=times_of(rows).numpy())


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


def test_later_events_change_nothing(kind: str, variant: int) -> None:
    model = make(kind, variant)
    times = times_of(torch.zeros(1, 5, dtype=torch.long))
    whole = user_vectors(model, [[1, 2, 3, 4, 5]], times)
    for length in range(1, 5):
        early = user_vectors(model, [[1, 2, 3, 4, 5][:length]], times[:, :length])
        torch.testing.assert_close(early, whole[:, :length], rtol=1e-5, atol=1e-6)


def test_times_of_later_events_change_nothing(kind: str, variant: int) -> None:
    model = make(kind, variant)
    histories = [[1, 2, 3, 4, 5], [-1, -1, 3, 4, 5]]
    times = times_of(torch.tensor(histories))
    before = user_vectors(model, histories, times)
    for place in range(1, 5):
        changed = times.clone()
        changed[:, place:] += 40 * 86_400_000
        after = user_vectors(model, histories, changed)
        torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=1e-6)
        moved = float((after[:, place] - before[:, place]).abs().max())
        assert moved > 1e-6 if model.needs_times else moved == 0
    # Only what lies between events counts, to the millisecond, and not when that was.
    torch.testing.assert_close(user_vectors(model, histories, times + 12_345_678_901), before)


def test_encoders_are_told_times_only_where_they_need_them(
    kind: str, variant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(kind, variant)
    handed: list[int] = []
    forward = model.user_encoder.forward

    def spy(*arguments: torch.Tensor) -> torch.Tensor:
        handed.append(len(arguments))
        found: torch.Tensor = forward(*arguments)
        return found

    monkeypatch.setattr(model.user_encoder, "forward", spy)
    user_vectors(model, [[1, 2]])
    assert handed == [3 if model.needs_times else 2]
    vectors, bias = model.encode_catalogue()
    if not model.needs_times:
        assert model.scores(torch.tensor([[1, 2]]), vectors, bias).shape == (1, NUM_ITEMS)
        return
    with pytest.raises(InputError, match=r"user\.time_intervals: this model reads when events happened"):
        model.scores(torch.tensor([[1, 2]]), vectors, bias)


def test_no_gradient_from_later_places(kind: str, variant: int) -> None:
    model = make(kind, variant)
    items = torch.randn(1, 5, DIM, requires_grad=True)
    out = encode(model, items, torch.ones(1, 5, dtype=torch.bool))
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
    model = make(kind, variant)
    items = torch.randn(1, 5, DIM)
    valid = torch.tensor([[False, False, True, True, True]])
    other = items.clone()
    other[0, :2] = 100.0
    with torch.no_grad():
        found, expected = encode(model, other, valid), encode(model, items, valid)
    torch.testing.assert_close(found[0, 2:], expected[0, 2:], rtol=1e-5, atol=1e-6)


def test_an_empty_history_is_defined(kind: str, variant: int) -> None:
    for scorer in SCORERS.kinds():
        model = make(kind, variant, scorer=scorer)
        for histories in ([[-1]], [[-1, -1, -1]]):
            assert not bool(scores(model, histories).any())
        mixed = scores(model, [[-1, -1, -1], [-1, 2, 3]])
        assert bool(torch.isfinite(mixed).all())
        torch.testing.assert_close(mixed[1:], scores(model, [[2, 3]]), rtol=1e-5, atol=1e-5)


def test_only_the_newest_events_are_read(kind: str, variant: int) -> None:
    model = make(kind, variant, max_history=3)
    long = scores(model, [[9, 8, 7, 1, 2, 3], [-1, -1, 7, 1, 2, 3]])
    short = scores(model, [[1, 2, 3]])
    torch.testing.assert_close(long, short.expand(2, -1))
    other = scores(model, [[7, 1, 2, 4]])
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


def test_buckets_change_nothing(kind: str, variant: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bucket padded to the longest, a bucket for every length, and what the costs choose."""
    lengths = [1, 6, 2, 0, 6, 3, 1, 1, 2]
    generator = torch.Generator().manual_seed(4)
    rows = torch.randint(NUM_ITEMS, (len(lengths), 6), generator=generator)
    rows = torch.where(torch.arange(6) >= 6 - torch.tensor(lengths)[:, None], rows, -1)
    ways = (lambda found: [int(found.max())], lambda found: sorted(set(found[found > 0].tolist())), places.bucket_ends)
    results = []
    for ends in ways:
        monkeypatch.setattr(places, "bucket_ends", ends)
        model = make(kind, variant)
        assert model.user_encoder is not None
        items = torch.randn(NUM_ITEMS, DIM, generator=torch.Generator().manual_seed(5)).requires_grad_()
        users = model.user_vectors(items, rows, times_BL=times_of(rows))
        weights = torch.randn(users.shape, generator=torch.Generator().manual_seed(6))
        (users * weights).sum().backward()
        results.append((users.detach(), [items.grad, *(p.grad for p in model.user_encoder.parameters())]))
    (users, gradients), *others = results
    for found, found_gradients in others:
        torch.testing.assert_close(found, users, rtol=1e-5, atol=1e-6)
        for gradient, wanted in zip(found_gradients, gradients, strict=True):
            assert (gradient is None) == (wanted is None)
            if wanted is not None:
                assert float((gradient - wanted).norm()) <= 1e-5 * float(wanted.norm()) + 1e-6


def test_zeros_stand_where_there_is_no_event(kind: str, variant: int) -> None:
    valid = torch.tensor([[False, False, True, True], [False] * 4])
    found = encode(make(kind, variant), torch.randn(2, 4, DIM), valid)
    assert not bool(found[~valid].any())
    assert bool(found[valid].any())


def test_all_places_at_once_give_the_same(kind: str, variant: int) -> None:
    """As graphs for other runtimes compute: padding behind, and no look at what is padding."""
    model = make(kind, variant)
    lengths = torch.tensor([6, 1, 3, 5])
    valid = torch.arange(6) >= 6 - lengths[:, None]
    items = torch.randn(4, 6, DIM) * valid[..., None]
    times = times_of(valid.long() - 1)
    order = (~valid).long().argsort(dim=1, stable=True)
    moved_items = items.gather(1, order[..., None].expand(-1, -1, DIM))
    moved_times = times.gather(1, order)
    places = WholePlaces(4, 6, items.device, moved_times if model.needs_times else None)
    with torch.no_grad():
        expected = encode(model, items, valid)[:, -1]
        encoder: Any = model.user_encoder
        found = places.unpack(encoder.packed(places.pack(moved_items), places))[torch.arange(4), lengths - 1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
