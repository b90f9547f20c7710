"""Ranking by products of vectors, a block of items at a time, against whole rows ranked one by one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import Cases, Sequences
from peftrec.evaluation import ProductScores, evaluate_cases, product, product_ranking, ranking
from peftrec.evaluation.product import Excluded, batches_by_length, score_blocks


@dataclasses.dataclass
class Table:
    """A user's vector is a row of a table; calls are remembered."""

    users_UD: torch.Tensor
    vectors_ND: torch.Tensor
    bias_N: torch.Tensor
    max_history: int = 3

    def __post_init__(self) -> None:
        self.seen: list[NDArray[np.int64]] = []

    def user_vectors(self, histories_BL: Any, users_B: Any, events_BL: Any, times_BL: Any) -> torch.Tensor:
        assert events_BL is None
        assert times_BL is None
        self.seen.append(histories_BL)
        return self.users_UD[users_B]

    def rows(self, histories_BL: Any, users_B: Any, *_: Any) -> torch.Tensor:
        return torch.addmm(self.bias_N, self.users_UD[users_B], self.vectors_ND.T)


def make(generator: np.random.Generator, num_users: int, num_items: int, *, whole: bool = True) -> tuple[Any, Any, Any]:
    """Users with histories of 0 to 6 items, repeats among them; whole numbers, so that many scores tie exactly."""
    lengths = generator.integers(1, 8, num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    sequences = Sequences(
        user_ids=tuple(f"u{user}" for user in range(num_users)),
        offsets=offsets,
        items=generator.integers(0, num_items, int(offsets[-1])),
    )
    order = generator.permutation(num_users)
    cases = Cases(order, lengths[order] - 1, sequences.items[offsets[order + 1] - 1])
    shapes = ((num_users, 3), (num_items, 3), (num_items,))
    draw = (lambda shape: generator.integers(-2, 3, shape)) if whole else generator.standard_normal
    tensors = [torch.from_numpy(np.asarray(draw(shape), dtype=np.float32)) for shape in shapes]
    return Table(*tensors), cases, sequences


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_items=st.integers(1, 300), block=st.sampled_from([1, 200, 2**21]))
def test_ranks_are_those_of_whole_rows(seed: int, num_items: int, block: int) -> None:
    generator = np.random.default_rng(seed)
    scores, cases, sequences = make(generator, int(generator.integers(1, 20)), num_items)
    if generator.random() < 0.3:
        scores.bias_N.zero_()
    options: dict[str, Any] = {"exclude_history": bool(generator.random() < 0.7), "batch_users": 7}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product, "BLOCK_SCORES", block)
        patch.setattr(product_ranking, "_MOST_VECTORS", 10)
        patch.setattr(product_ranking, "_TARGETS_AT_ONCE", 4)
        found = evaluate_cases(scores, cases, sequences, num_items, of_users=True, **options)
    expected = evaluate_cases(scores.rows, cases, sequences, num_items, of_users=True, **options)
    np.testing.assert_array_equal(found.ranks, expected.ranks)
    np.testing.assert_array_equal(found.users, expected.users)
    assert found.repeat_target_share == expected.repeat_target_share


def test_equal_items_tie_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "BLOCK_SCORES", 64)
    for num_users in (1, 2, 33):
        scores, cases, sequences = make(np.random.default_rng(num_users), num_users, 500, whole=False)
        scores.vectors_ND[250:], scores.bias_N[250:] = scores.vectors_ND[:250], scores.bias_N[:250]
        once = evaluate_cases(scores, cases, sequences, 500, of_users=True, exclude_history=False)
        assert (once.ranks % 2 == 0).all(), "an item and its copy stand together, in front of or at the target"


@pytest.mark.parametrize("num_items", [2, 65, 129, 193, 641])
def test_no_block_is_a_single_column_which_may_be_rounded_otherwise(
    num_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last item is a copy of the first, and alone in what is left of blocks of 64."""
    monkeypatch.setattr(product, "BLOCK_SCORES", 64)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(num_items, 384, generator=generator)
    vectors[-1] = vectors[0]
    users = vectors[0] + 0.3 * torch.randn(256, 384, generator=generator)
    blocks = [(start, scores.clone()) for start, scores in score_blocks(users, vectors, torch.zeros(num_items))]
    assert sum(scores.shape[1] for _, scores in blocks) == num_items
    assert min(scores.shape[1] for _, scores in blocks) > 1
    assert torch.equal(blocks[0][1][:, 0], blocks[-1][1][:, -1])
    targets = np.zeros(len(users), dtype=np.int64)
    ranks = product_ranking.ranks_of_targets(users, targets, vectors, torch.zeros(num_items), None)
    assert ranks.unique().tolist() == [2], "the copy ties with the target, for every user"


def test_a_target_that_is_rounded_otherwise_is_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, cases, sequences = make(np.random.default_rng(0), 30, 200)
    expected = evaluate_cases(scores, cases, sequences, 200, of_users=True)
    plain = product_ranking._target_scores
    monkeypatch.setattr(product_ranking, "_target_scores", lambda *known: plain(*known) + 0.25)
    np.testing.assert_array_equal(evaluate_cases(scores, cases, sequences, 200, of_users=True).ranks, expected.ranks)


def test_histories_are_cut_to_what_is_read_and_batched_by_length() -> None:
    scores, cases, sequences = make(np.random.default_rng(3), 50, 40)
    assert isinstance(scores, ProductScores)
    evaluate_cases(scores, cases, sequences, 40, of_users=True, batch_users=16)
    assert sum(len(histories) for histories in scores.seen) == 50
    widths = [histories.shape[1] for histories in scores.seen]
    assert widths == sorted(widths)
    assert (widths[0], widths[-1]) == (1, 3), "short ones are not padded to long ones, nor long ones read whole"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_without_order_are_refused(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "BLOCK_SCORES", 64)
    scores, cases, sequences = make(np.random.default_rng(1), 5, 300)
    scores.users_UD[:] = 1
    scores.vectors_ND[7, 1] = bad
    with pytest.raises(InputError, match=rf"5 of 1500 scores are NaN or infinite, first for user 'u{cases.users[0]}'"):
        evaluate_cases(scores, cases, sequences, 300, of_users=True)
    scores.vectors_ND[7, 1] = 1.0
    scores.users_UD[cases.users[3], 0] = bad
    with pytest.raises(InputError, match=rf"of 1500 scores are NaN or infinite, first for user 'u{cases.users[3]}'"):
        evaluate_cases(scores, cases, sequences, 300, of_users=True)
    scores.users_UD[:] = 0
    scores.bias_N[2] = bad
    with pytest.raises(InputError, match=r"5 of 1500 scores are NaN or infinite"):
        evaluate_cases(scores, cases, sequences, 300, of_users=True)


def test_large_finite_scores_are_ranked() -> None:
    scores, cases, sequences = make(np.random.default_rng(1), 5, 30)
    scores.bias_N[:] = torch.finfo(torch.float32).max
    scores.users_UD[:] = 0
    found = evaluate_cases(scores, cases, sequences, 30, of_users=True, exclude_history=False)
    np.testing.assert_array_equal(found.ranks, 30)


def test_a_catalogue_of_another_size_is_refused() -> None:
    scores, cases, sequences = make(np.random.default_rng(1), 5, 30)
    with pytest.raises(ValueError, match="scores must be of 31 items, got 30"):
        evaluate_cases(scores, cases, sequences, 31, of_users=True)


def test_whole_rows_are_made_of_fewer_users_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, cases, sequences = make(np.random.default_rng(2), 20, 100)
    expected = evaluate_cases(scores.rows, cases, sequences, 100, of_users=True)
    monkeypatch.setattr(ranking, "MOST_SCORES", 350)
    sizes: list[int] = []

    def rows(histories: Any, *known: Any) -> torch.Tensor:
        sizes.append(len(histories))
        return scores.rows(histories, *known)

    found = evaluate_cases(rows, cases, sequences, 100, of_users=True)
    assert max(sizes) == 3
    np.testing.assert_array_equal(found.ranks, expected.ranks)


@pytest.mark.parametrize(("num_users", "num_items"), [(1, 1), (3, 64), (3, 65), (2, 1000), (5000, 130), (5000, 129)])
def test_blocks_cover_the_catalogue_in_a_stated_memory(
    num_users: int, num_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "BLOCK_SCORES", 1024)
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randint(-3, 4, (size, 2), generator=generator).float() for size in (num_users, num_items))
    bias = torch.randint(-3, 4, (num_items,), generator=generator).float()
    found = [(start, scores.clone()) for start, scores in score_blocks(users, items, bias)]
    assert torch.equal(torch.cat([scores for _, scores in found], dim=1), users @ items.T + bias)
    assert [start for start, _ in found] == [sum(s.shape[1] for _, s in found[:n]) for n in range(len(found))]
    assert max(scores.numel() for _, scores in found) <= max(1024, 65 * num_users)


def test_what_is_left_out_is_found_by_block() -> None:
    excluded = Excluded.of(np.array([[-1, 5, 2, 5], [-1, -1, -1, -1], [9, 2, 0, 9]]))
    rows, columns = excluded.within(2, 6)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (0, 3), (2, 0)]
    assert [len(part) for part in excluded.within(6, 9)] == [0, 0]
    assert len(excluded.within(0, 10)[0]) == 5


def test_batches_hold_fewer_users_of_long_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_MOST_PAIRS", 100)
    lengths = np.array([0, 50, 5, 1, 2, 5, 3, 5, 5, 5])
    batches = list(batches_by_length(lengths, 4))
    assert sorted(np.concatenate(batches).tolist()) == list(range(10))
    assert [lengths[batch].max() for batch in batches] == sorted(lengths[batch].max() for batch in batches)
    assert all(len(batch) <= 4 for batch in batches)
    assert batches[-1].tolist() == [1]
    assert list(batches_by_length(lengths[:0], 4)) == []
