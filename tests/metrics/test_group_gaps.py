"""Gaps between groups of users."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.metrics import group_gaps

NAN = float("nan")
VALUES = np.array([1.0, 0.0, 0.5, 0.9, NAN, 0.2])
GROUPS = np.array([0, 0, 1, -1, 2, 1])
NAMES = ("old", "young", "none")


def test_gap_by_hand() -> None:
    found = group_gaps(VALUES, GROUPS, NAMES)
    assert found.means == pytest.approx({"old": 0.5, "young": 0.35, "none": NAN}, nan_ok=True)
    assert found.counts == {"old": 2, "young": 2, "none": 0}
    assert (found.best, found.worst) == ("old", "young")
    assert found.gap == pytest.approx(0.15)


def test_unknown_groups_count_only_when_they_are_named() -> None:
    found = group_gaps(VALUES, GROUPS, NAMES, unknown="not known")
    assert (found.best, found.worst) == ("not known", "young")
    assert found.gap == pytest.approx(0.55)
    assert found.counts["not known"] == 1
    # Named, but nobody is of it.
    found = group_gaps(VALUES[:3], GROUPS[:3], NAMES, unknown="not known")
    assert found.counts["not known"] == 0
    assert found.best == "old"


def test_lower_may_be_better() -> None:
    found = group_gaps(VALUES, GROUPS, NAMES, higher_is_better=False)
    assert (found.best, found.worst) == ("young", "old")
    assert found.gap == pytest.approx(0.15)


def test_one_group_alone_has_no_gap() -> None:
    found = group_gaps(VALUES[:2], GROUPS[:2], NAMES)
    assert np.isnan(found.gap)
    assert found.best == found.worst == "old"
    nobody = group_gaps(np.array([NAN, 1.0]), np.array([0, -1]), NAMES)
    assert np.isnan(nobody.gap)
    assert nobody.best is None
    assert nobody.worst is None
    assert nobody.counts == {"old": 0, "young": 0, "none": 0}
    assert group_gaps(np.empty(0), np.empty(0, dtype=np.int64), ()).means == {}


def test_equal_groups_have_a_gap_of_nothing() -> None:
    found = group_gaps(np.array([0.5, 0.5]), np.array([1, 0]), ("a", "b"))
    assert (found.gap, found.best, found.worst) == (0, "a", "a")


def test_groups_that_are_none_are_refused() -> None:
    for group in (3, -2):
        with pytest.raises(ValueError, match=f"user 1 is of group {group}; there are 0 to 2"):
            group_gaps(VALUES[:2], np.array([0, group]), NAMES)
    with pytest.raises(ValueError, match="different names"):
        group_gaps(VALUES, GROUPS, ("a", "b", "a"))
    with pytest.raises(ValueError, match="different names"):
        group_gaps(VALUES, GROUPS, NAMES, unknown="old")
    with pytest.raises(ValueError, match="user 0 is infinite"):
        group_gaps(np.array([np.inf]), np.array([0]), NAMES)
    with pytest.raises(ValueError, match="one shape"):
        group_gaps(VALUES, GROUPS[:2], NAMES)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 2)), min_size=1, max_size=20))
def test_means_are_of_each_group(users: list[tuple[float, int]]) -> None:
    values, groups = np.array([value for value, _ in users]), np.array([group for _, group in users])
    found = group_gaps(values, groups, NAMES)
    means = {NAMES[group]: values[groups == group].mean() for group in range(3) if (groups == group).any()}
    assert {name: mean for name, mean in found.means.items() if not np.isnan(mean)} == pytest.approx(means)
    if len(means) > 1:
        assert found.gap == pytest.approx(max(means.values()) - min(means.values()))
