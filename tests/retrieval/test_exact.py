"""The best items without sorting the catalogue, against a full sort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError
from peftrec.evaluation import product
from peftrec.evaluation.product import Excluded
from peftrec.retrieval import exact, top_items, top_products


def sorted_whole(scores_BN: torch.Tensor, k: int, exclude_BL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What lists are: a stable sort of every row, in which what is left out stands last."""
    scores_BN = scores_BN.clone()
    for row, items in enumerate(exclude_BL):
        scores_BN[row, items[items >= 0]] = -torch.inf
    found = torch.sort(scores_BN, dim=1, descending=True, stable=True)
    scores_BK, items_BK = found.values[:, :k], found.indices[:, :k]
    return torch.where(scores_BK == -torch.inf, -1, items_BK), scores_BK


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_items=st.one_of(st.integers(1, 200), st.integers(1000, 3000)),
    k=st.sampled_from([1, 2, 10, 50, 5000]),
    spread=st.sampled_from([1, 3, 1000]),
    block=st.sampled_from([1, 2000, 2**21]),
)
def test_lists_equal_a_full_sort(seed: int, num_items: int, k: int, spread: int, block: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(-spread, spread + 1, shape, generator=generator).float()

    num_users = int(torch.randint(1, 12, (), generator=generator))
    users, items, bias = draw(num_users, 3), draw(num_items, 3), draw(num_items)
    exclude = torch.randint(-1, num_items, (num_users, 6), generator=generator)
    exclude[0] = -1
    scores = users @ items.T + bias
    expected = sorted_whole(scores, k, exclude)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product, "BLOCK_SCORES", block)
        patch.setattr(exact, "BLOCK_SCORES", max(64, block))
        whole = top_items(scores, k, exclude_BL=exclude)
        streamed = top_products(users, items, bias, k, excluded=Excluded.of(exclude.numpy()))
    for found in (whole, streamed):
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_scores_are_only_read() -> None:
    scores = torch.arange(12.0).view(2, 6)
    before = scores.clone()
    items, _ = top_items(scores, 2, exclude_BL=torch.tensor([[5], [-1]]))
    assert items.tolist() == [[4, 3], [5, 4]]
    assert torch.equal(scores, before)
    # A row that is shared by all users is shared still.
    assert top_items(scores[:1].expand(3, -1), 1, exclude_BL=torch.tensor([[5], [4], [-1]]))[0].tolist() == [
        [4],
        [5],
        [5],
    ]


def test_where_nothing_is_left_the_rest_is_empty() -> None:
    items, scores = top_items(torch.tensor([[1.0, 2.0, 3.0]]), 5, exclude_BL=torch.tensor([[0, 2, -1]]))
    assert items.tolist() == [[1, -1, -1]]
    assert scores.tolist() == [[2.0, -torch.inf, -torch.inf]]


def test_what_cannot_be_ranked_is_refused() -> None:
    for k in (0, -1):
        with pytest.raises(ValueError, match="k must be at least 1"):
            top_items(torch.zeros(1, 3), k)
    for num_items in (5, 1000):
        scores: Any = torch.zeros(2, num_items)
        scores[1, num_items - 2] = np.nan
        with pytest.raises(InputError, match="a score is NaN"):
            top_items(scores, 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 700), st.integers(1, 80))
def test_one_user_gets_what_many_get(seed: int, num_items: int, k: int) -> None:
    """With ties, left out items, and fewer groups than the list is long."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 40, (num_items,), generator=generator).float()
    scores[torch.rand(num_items, generator=generator) < 0.3] = -torch.inf
    for one, many in zip(exact.top_of_one(scores, k), top_items(scores[None], k), strict=True):
        assert one.tolist() == many.tolist()
    scores[seed % num_items] = torch.nan
    with pytest.raises(InputError, match="a score is NaN"):
        exact.top_of_one(scores, k)
