"""How texts are cut into chunks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders.item_text import _CHUNK_COST, ItemTexts, _cuts


def texts_of(lengths: list[int]) -> ItemTexts:
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    return ItemTexts(torch.zeros(sum(lengths), dtype=torch.long), offsets, 0)


def cost(lengths: np.ndarray, cuts: list[tuple[int, int]]) -> int:
    return sum(int(lengths[start]) * (end - start) + _CHUNK_COST for start, end in cuts)


@pytest.mark.parametrize("seed", range(20))
def test_every_text_is_in_one_chunk_within_the_budget(seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = texts_of(random.integers(1, 40, int(random.integers(1, 400))).tolist())
    items = torch.from_numpy(random.permutation(len(texts)))
    chunks = texts.chunks(items, 128)
    assert sorted(torch.cat(chunks).tolist()) == list(range(len(items)))
    for chunk in chunks:
        assert len(chunk) * int(texts.lengths[items[chunk]].max()) <= 128


def test_one_length_fills_the_budget() -> None:
    assert [len(chunk) for chunk in texts_of([10] * 35).chunks(torch.arange(35), 100)] == [10, 10, 10, 5]


@pytest.mark.parametrize("seed", range(10))
def test_no_other_places_to_cut_cost_less(seed: int) -> None:
    """Against all ways to cut where the length falls."""
    random = np.random.default_rng(seed)
    lengths = np.sort(random.choice([3, 9, 20, 50, 90, 200], 60))[::-1].astype(np.int64)
    falls = (np.flatnonzero(np.diff(lengths)) + 1).tolist()
    best = min(
        cost(lengths, list(itertools.pairwise([0, *places, 60])))
        for number in range(len(falls) + 1)
        for places in itertools.combinations(falls, number)
    )
    assert cost(lengths, _cuts(lengths, 100_000)) == best


def test_a_budget_smaller_than_a_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"token_budget is 16, but one text has 20 tokens"):
        texts_of([4, 20]).chunks(torch.arange(2), 16)


def test_no_texts_give_no_chunks() -> None:
    assert texts_of([4]).chunks(torch.arange(0), 16) == []
