"""Pairs of users and items, and the weights of a history's events, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.baselines import interaction
from peftrec.baselines.interaction import Interactions, event_weights, newest_places
from peftrec.baselines.item_to_item import largest

ROWS = [[0, 1, 0], [1, 2], [], [3, 1]]


def test_pairs_are_there_once_and_only_of_training(rows_dataset: Callable[..., Any]) -> None:
    pairs = Interactions.of(rows_dataset(ROWS, 6))
    assert list(zip(pairs.users_P, pairs.items_P, strict=True)) == [(0, 0), (0, 1), (1, 1), (1, 2), (3, 1), (3, 3)]
    assert pairs.item_users_N.tolist() == [1, 3, 1, 1, 0, 0]
    assert pairs.user_items_U.tolist() == [2, 2, 0, 2]
    trained, which = pairs.of_trained_items()
    assert which.tolist() == [0, 1, 2, 3]
    assert trained.num_items == 4


@pytest.mark.parametrize("block", [1, 5, 2**24])
def test_shared_users_are_the_product_in_blocks_of_any_size(
    block: int, rows_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interaction, "_BLOCK", block)
    generator = np.random.default_rng(0)
    rows = [list(generator.integers(0, 20, size=generator.integers(0, 9))) for _ in range(30)]
    pairs = Interactions.of(rows_dataset(rows, 25))
    dense = np.zeros((30, 25))
    dense[pairs.users_P, pairs.items_P] = 1.0
    weights = generator.random(30)
    for given, expected in ((None, dense.T @ dense), (weights, dense.T @ (weights[:, None] * dense))):
        found = list(pairs.shared_users(given))
        assert [start for start, _ in found] == list(range(0, 25, max(1, min(25, block // 30))))
        np.testing.assert_allclose(torch.cat([part for _, part in found]).numpy(), expected, rtol=1e-6)


def test_weights_fall_with_the_events_that_are_newer() -> None:
    rows = np.array([[-1, -1, 5, 2], [3, 1, 0, 4], [-1, -1, -1, -1]])
    expected = [[0, 0, 0.5, 1], [0.125, 0.25, 0.5, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(event_weights(newest_places(rows), 0.5), expected)
    assert event_weights(newest_places(rows), 1.0).sum() == 6
    assert event_weights(newest_places(rows[:, :0]), 0.5).shape == (3, 0)


def test_an_item_counts_once_at_its_newest_place() -> None:
    rows = np.array([[7, 2, 7, 7], [-1, 7, 2, 2], [2, 7, 2, 7]])
    expected = [[0, 0.25, 0, 1], [0, 0.25, 0, 1], [0, 0, 0.5, 1]]
    np.testing.assert_array_equal(event_weights(newest_places(rows), 0.5), expected)


def test_the_largest_are_kept_and_of_equal_ones_the_first() -> None:
    values = torch.tensor([[0.5, -2.0, 0.0, 1.0, 1.0], [0.0, 0.0, -0.1, 0.0, 0.0], [1.0, 1.0, 1.0, -1.0, 1.0]])
    columns, kept = largest(values, 3)
    assert columns.tolist() == [[1, 3, 4], [2, 0, 0], [0, 1, 2]]
    torch.testing.assert_close(kept, torch.tensor([[-2.0, 1.0, 1.0], [-0.1, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    assert columns.dtype == torch.int32
