"""Histories in buckets: which ones, and what is moved where."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from peftrec.models.places import Bucket, Places, bucket_ends, move_rows

VALID = torch.tensor([[False, True, True], [False, False, False], [True, True, True], [False, False, True]])


def cost(lengths: list[int], ends: tuple[int, ...]) -> float:
    """What buckets cost, written down plainly."""
    padded = [min(end for end in ends if end >= length) for length in lengths if length]
    return sum(length * (1 + length / 64) for length in padded) + 150 * len(ends)


@pytest.mark.parametrize("seed", range(8))
def test_buckets_cost_least(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = np.minimum(random.geometric(0.3, size=int(random.integers(1, 600))), 7) * (random.random() < 0.9)
    lengths = np.append(lengths, random.integers(1, 30))
    found = bucket_ends(lengths.astype(np.int64))
    distinct = sorted(set(lengths[lengths > 0].tolist()))
    ways = [(*c, distinct[-1]) for n in range(len(distinct)) for c in combinations(distinct[:-1], n)]
    assert cost(lengths.tolist(), tuple(found)) == pytest.approx(min(cost(lengths.tolist(), way) for way in ways))
    assert found == sorted(found)
    assert found[-1] == distinct[-1]


def test_few_histories_share_a_bucket_and_many_do_not() -> None:
    assert bucket_ends(np.array([1, 20, 3, 0])) == [20]
    assert bucket_ends(np.array([3] * 1000 + [50] * 100 + [0])) == [3, 50]
    assert bucket_ends(np.array([0, 0])) == []


def test_packing_and_unpacking_by_hand() -> None:
    places = Places(VALID)
    padded = torch.arange(12.0).reshape(4, 3, 1).requires_grad_()
    packed = places.pack(padded)
    assert packed[:, 0].tolist() == [1, 2, 6, 7, 8, 11]
    assert torch.equal(places.unpack(packed), padded * VALID[..., None])
    assert (places.lengths_B.tolist(), places.starts_B.tolist()) == ([2, 0, 3, 1], [0, 2, 2, 5])
    (places.unpack(packed) * torch.arange(12.0).reshape(4, 3, 1)).sum().backward()
    assert padded.grad is not None
    assert torch.equal(padded.grad, torch.arange(12.0).reshape(4, 3, 1) * VALID[..., None])


@pytest.mark.parametrize("ends", [[3], [1, 3], [1, 2, 3]])
def test_a_bucket_holds_events_first_and_zeros_behind(ends: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.models.places.bucket_ends", lambda _: ends)
    times = torch.arange(12).reshape(4, 3)
    places = Places(VALID, times)
    seen: list[tuple[list[list[float]], list[list[int]]]] = []

    def function(part: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        assert part.shape[:2] == (bucket.num_users, bucket.length) == bucket.times_BL.shape  # type: ignore[union-attr]
        seen.append((part[..., 0].tolist(), bucket.times_BL.tolist()))  # type: ignore[union-attr]
        return part * 2

    packed = torch.tensor([[1.0], [2], [6], [7], [8], [11]]).requires_grad_()
    found = places.by_bucket(packed, function)
    assert torch.equal(found, 2 * packed)
    (gradient,) = torch.autograd.grad((found * torch.arange(6.0)[:, None]).sum(), packed)
    assert torch.equal(gradient, 2 * torch.arange(6.0)[:, None])
    rows = [row for states, _ in seen for row in states]
    assert sorted([value for value in row if value] for row in rows) == [[1, 2], [6, 7, 8], [11]]
    assert all(0 not in row[: len([value for value in row if value])] for row in rows)
    for states, moments in seen:
        for row, moment in zip(states, moments, strict=True):
            assert all(value == time for value, time in zip(row, moment, strict=True) if value)


def test_nothing_at_all() -> None:
    places = Places(torch.zeros(2, 3, dtype=torch.bool))
    packed = places.pack(torch.ones(2, 3, 4))
    assert packed.shape == (0, 4)
    assert places.by_bucket(packed, lambda states, _: states[..., :2]).shape == (0, 2)
    assert torch.equal(places.unpack(packed), torch.zeros(2, 3, 4))


def test_moving_rows_has_the_gradient_of_indexing() -> None:
    rows = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    source, empty = torch.tensor([2, 0, 0, 1]), torch.tensor([1])
    back, unused = torch.tensor([2, 3, 0]), None
    assert torch.equal(
        move_rows(rows, source, empty, back, unused), torch.stack([rows[2], 0 * rows[0], rows[0], rows[1]])
    )
    assert torch.autograd.gradcheck(lambda r: move_rows(r, source, empty, back, unused), rows)
