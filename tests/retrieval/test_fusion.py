"""Fusion against values worked out by hand, and what it promises for ties, constants and numbers that are none."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError
from peftrec.retrieval import Fusion, weight_grid
from peftrec.retrieval.fusion import reciprocal_ranks, standardised

SCORES = torch.tensor([[1.0, 3.0, 2.0, 6.0], [5.0, 5.0, 5.0, 5.0]])


def test_standardised_by_hand() -> None:
    # Mean 3, deviations -2, 0, -1, 3, variance 14/4.
    spread = math.sqrt(3.5)
    expected = torch.tensor([[-2 / spread, 0, -1 / spread, 3 / spread], [0, 0, 0, 0]])
    torch.testing.assert_close(standardised(SCORES), expected)


def test_reciprocal_ranks_by_hand() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0, 6.0], [5.0, 5.0, 5.0, 5.0], [2.0, 9.0, 2.0, 1.0]])
    ranks = torch.tensor([[4.0, 2, 3, 1], [4, 4, 4, 4], [3, 1, 3, 4]])
    torch.testing.assert_close(reciprocal_ranks(scores), 1 / (60 + ranks))


def test_combined_by_hand() -> None:
    other = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    by_rank = Fusion("rank", (3.0, 1.0))
    found = by_rank.combine([by_rank.part(SCORES), by_rank.part(other)])
    first = [0.75 / 64 + 0.25 / 61, 0.75 / 62 + 0.25 / 62, 0.75 / 63 + 0.25 / 63, 0.75 / 61 + 0.25 / 64]
    torch.testing.assert_close(found[0], torch.tensor(first))
    by_score = Fusion("score", (1.0, 1.0))
    parts = [by_score.part(SCORES), by_score.part(other)]
    found = by_score.combine(parts)
    deviations = torch.tensor([1.5, 0.5, -0.5, -1.5]) / math.sqrt(1.25)
    torch.testing.assert_close(found[1], -0.5 * deviations)
    # Parts are not written to.
    torch.testing.assert_close(parts[1][1], -deviations)
    torch.testing.assert_close(parts[0], standardised(SCORES))


def test_a_weight_of_0_is_a_member_left_out() -> None:
    other = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    for by in ("score", "rank"):
        fusion = Fusion(by, (2.0, 0.0))
        parts = [fusion.part(SCORES), fusion.part(other)]
        torch.testing.assert_close(fusion.combine(parts), parts[0])


@pytest.mark.parametrize("value", [0.1, 1e-30, 1e30, -7.3, 0.0])
def test_a_user_without_differences_has_no_say(value: float) -> None:
    scores = torch.full((1, 1001), value)
    assert torch.equal(standardised(scores), torch.zeros(1, 1001))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", [standardised, reciprocal_ranks])
def test_what_has_no_order_stays_to_be_seen(part: object, wrong: float) -> None:
    scores = SCORES.clone()
    scores[1, 2] = wrong
    assert callable(part)
    found = part(scores)
    assert not found[1].isfinite().all()
    assert found[0].isfinite().all()


@given(
    scores=st.lists(st.integers(-50, 50), min_size=2, max_size=12),
    scale=st.floats(0.1, 100),
    shift=st.floats(-100, 100),
)
@settings(max_examples=60, deadline=None)
def test_parts_keep_order_and_ties_whatever_the_scale(scores: list[int], scale: float, shift: float) -> None:
    row = torch.tensor([scores], dtype=torch.float64)
    for part in (standardised, reciprocal_ranks):
        found, moved = part(row), part(row * scale + shift)
        torch.testing.assert_close(found, moved, rtol=1e-5, atol=1e-9)
        sign = torch.sign(row[0][:, None] - row[0][None])
        assert torch.equal(torch.sign(found[0][:, None] - found[0][None]).double(), sign)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="two members or more, got 1"):
        Fusion("score", (1.0,))
    with pytest.raises(InputError, match="weight 2 is nan"):
        Fusion("score", (1.0, math.nan))
    with pytest.raises(InputError, match="weight 1 is -1"):
        Fusion("rank", (-1.0, 2.0))
    with pytest.raises(InputError, match="weight 1 is inf"):
        Fusion("rank", (math.inf, 2.0))
    with pytest.raises(InputError, match="all weights are 0"):
        Fusion("rank", (0.0, 0.0))
    with pytest.raises(InputError, match="'borda' is not one of score, rank"):
        Fusion("borda", (1.0, 1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 parts for 2 weights"):
        Fusion("score", (1.0, 1.0)).combine([SCORES])


def test_the_grid() -> None:
    two = weight_grid(2)
    assert two[0] == (0.5, 0.5)
    assert sorted(two) == [(tenth / 10, (10 - tenth) / 10) for tenth in range(11)] == sorted(set(two))
    for members in (3, 4, 7, 12, 20):
        grid = weight_grid(members)
        assert grid[0] == (1 / members,) * members
        assert len(set(grid)) == len(grid) <= 101
        assert all(len(weights) == members and math.isclose(sum(weights), 1) for weights in grid)
        for place in range(members):
            alone = tuple(float(place == other) for other in range(members))
            assert alone in grid
