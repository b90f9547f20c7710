"""Scores that are products of vectors, made a block of items at a time.

Shapes: B users, L places of a history, N items of the catalogue, n items of a block, D width, E excluded places.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError

# Scores that are held at once: 16 MiB. With a million items of 64 dimensions on two cores, half as many made lists a
# tenth slower, four times as many lists a third and ranks by half.
BLOCK_SCORES: Final = 2**22
# Pairs of places of histories that are encoded at once: attention holds one number a pair and head.
_MOST_PAIRS = 2**21
_LEAST_WIDTH = 64


@runtime_checkable
class ProductScores(Protocol):
    """What scores an item by its bias plus the product of the user's vector and the item's.

    Whoever ranks such scores needs not hold the rows of them: a block of items is scored, read and forgotten.

    Attributes:
        max_history: newest events of a history that are read.
        vectors_ND: item vectors, finite where the scores shall be.
        bias_N: added to each item's score.
    """

    @property
    def max_history(self) -> int: ...

    @property
    def vectors_ND(self) -> torch.Tensor: ...

    @property
    def bias_N(self) -> torch.Tensor: ...

    def user_vectors(
        self,
        histories_BL: NDArray[np.int64],
        users_B: NDArray[np.int64] | None,
        events_BL: NDArray[np.int64] | None,
        times_BL: NDArray[np.int64] | None,
    ) -> torch.Tensor:
        """Return the vectors of users, shape (B, D), for what `UserScores` are given; on the items' device."""
        ...


def score_blocks(
    users_BD: torch.Tensor, vectors_ND: torch.Tensor, bias_N: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor]]:
    """Score the catalogue a block of items at a time.

    Args:
        users_BD: user vectors.
        vectors_ND: item vectors, as wide.
        bias_N: of each item.
    Returns:
        The first item of each block and its scores (B, n), some `BLOCK_SCORES` or, for very many users, 65 columns. The
        next block takes their place in memory: read them before you go on, and write to them as you like.
    """
    num_users, num_items = len(users_BD), len(vectors_ND)
    num_blocks = max(1, -(-num_items // max(_LEAST_WIDTH, BLOCK_SCORES // max(1, num_users))))
    width = -(-num_items // (num_blocks * _LEAST_WIDTH)) * _LEAST_WIDTH
    # A product with a single column may round otherwise than one with many, and equal items would then differ: an item
    # that would be left alone joins the block before it.
    edges = (0, *range(width, num_items - 1, width), num_items)
    memory = users_BD.new_empty(num_users * min(width + 1, num_items))
    has_bias = bool(bias_N.any())
    for start, stop in itertools.pairwise(edges):
        part_nD = vectors_ND[start:stop]
        scores_Bn = memory[: num_users * len(part_nD)].view(num_users, len(part_nD))
        if has_bias:
            torch.addmm(bias_N[start:stop], users_BD, part_nD.T, out=scores_Bn)
        else:
            torch.mm(users_BD, part_nD.T, out=scores_Bn)
        yield start, scores_Bn


class Excluded:
    """Which items to leave out of whose ranking, found by block; an item that is there twice counts once.

    Args:
        offsets: where each user's items begin, and the end, shape (B + 1,).
        items: user after user; -1 is no item.
        device: of the scores.
    """

    def __init__(
        self, offsets: NDArray[np.int64], items: NDArray[np.int64], device: torch.device | str = "cpu"
    ) -> None:
        num_users = max(1, len(offsets) - 1)
        rows = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
        # By item, then user: a block's are neighbours.
        keys_E = np.unique(items[items >= 0] * num_users + rows[items >= 0])
        self._items_E = keys_E // num_users
        self._columns_E = torch.from_numpy(self._items_E).to(device)
        self._rows_E = torch.from_numpy(keys_E % num_users).to(device)

    @classmethod
    def of(cls, histories_BL: NDArray[np.int64], device: torch.device | str = "cpu") -> Excluded:
        """Make them of histories (B, L) that are padded with -1."""
        num_users, width = histories_BL.shape
        return cls(np.arange(num_users + 1, dtype=np.int64) * width, histories_BL.ravel(), device)

    def within(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows and columns (items less `start`) of what is left out of a block of items."""
        low, high = np.searchsorted(self._items_E, (start, stop)).tolist()
        return self._rows_E[low:high], self._columns_E[low:high] - start


def refuse_unordered(
    users_BD: torch.Tensor, vectors_ND: torch.Tensor, bias_N: torch.Tensor, largest: float, user_ids: Sequence[str]
) -> None:
    """Refuse users who have a score that is NaN or infinite; reads scores only where vectors do not rule it out.

    Args:
        users_BD: user vectors.
        vectors_ND: item vectors.
        bias_N: of each item.
        largest: from `largest_score` of the same items.
        user_ids: of the users, for the message.
    Raises:
        InputError: with the number of such scores and the first user.
    """
    # |u . v| <= |u| |v|, and so is every sum on the way; NaN is never smaller.
    longest = float(torch.linalg.vector_norm(users_BD, dim=1).max())
    if (longest + 1) * largest < torch.finfo(users_BD.dtype).max / 4:
        return
    num_bad, first = 0, len(user_ids)
    for _, scores_Bn in score_blocks(users_BD, vectors_ND, bias_N):
        bad_Bn = ~scores_Bn.isfinite()
        if bool(bad_Bn.any()):
            num_bad += int(bad_Bn.sum())
            first = min(first, int(bad_Bn.any(dim=1).nonzero()[0, 0]))
    if num_bad:
        raise unordered(num_bad, len(users_BD) * len(vectors_ND), user_ids[first])


def largest_score(vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> float:
    """Return what no user vector of length 1 can score above: the longest item vector or the largest bias."""
    longest = torch.linalg.vector_norm(vectors_ND, dim=1).amax() if len(vectors_ND) else bias_N.new_zeros(())
    return float(torch.maximum(longest, bias_N.abs().amax()) if len(bias_N) else longest)


def unordered(num_bad: int, num_scores: int, user_id: str) -> InputError:
    """Return what is said of scores that have no order."""
    return InputError(
        f"{num_bad} of {num_scores} scores are NaN or infinite, first for user {user_id!r}: the model cannot be ranked"
    )


def batches_by_length(lengths: NDArray[np.int64], most_users: int) -> Iterator[NDArray[np.int64]]:
    """Cut users into batches of similar history length, so that short histories are hardly padded.

    Args:
        lengths: events that are read of each user.
        most_users: users of a batch at most; of long histories there are fewer.
    Returns:
        Places in `lengths`, from short to long, each once.
    """
    order = np.argsort(lengths, kind="stable")
    stop = len(order)
    batches = []
    while stop > 0:
        longest = max(1, int(lengths[order[stop - 1]]))
        start = max(0, stop - max(1, min(most_users, _MOST_PAIRS // longest**2)))
        batches.append(order[start:stop])
        stop = start
    yield from reversed(batches)
