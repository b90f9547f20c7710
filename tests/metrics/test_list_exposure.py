from __future__ import annotations

import numpy as np
import pytest

from peftrec.metrics.list_exposure import exposure_gap, group_shares, mean_popularity

LISTS = np.array([[0, 1, 2, 3], [3, 3, -1, -1]])


def test_popularity_by_hand() -> None:
    assert mean_popularity(LISTS, np.array([10, 20, 0, 6])).tolist() == [9.0, 6.0]


def test_groups_by_hand() -> None:
    shares = group_shares(LISTS, np.array([0, 1, 1, 2]), 3)
    assert shares.tolist() == [[0.25, 0.5, 0.25], [0, 0, 1]]
    # Means 1/8, 1/4, 5/8 against thirds.
    gap = (1 / 8 - 1 / 3) ** 2 + (1 / 4 - 1 / 3) ** 2 + (5 / 8 - 1 / 3) ** 2
    assert exposure_gap(shares, np.full(3, 1 / 3)) == pytest.approx(gap)
    assert exposure_gap(shares, np.array([1 / 8, 1 / 4, 5 / 8])) == 0


def test_an_empty_list_has_neither() -> None:
    empty = np.array([[0, 1], [-1, -1]])
    with pytest.raises(ValueError, match="the list of user 1 is empty"):
        mean_popularity(empty, np.array([1, 2]))
    with pytest.raises(ValueError, match="the list of user 1 is empty"):
        group_shares(empty, np.array([0, 1]), 2)
