"""What the processes of a launch tell each other; several are started in tests/training and tests/run."""

from __future__ import annotations

import numpy as np
import torch

from peftrec.launch import Ranks


def test_shares_are_even_and_all_there() -> None:
    lengths = torch.tensor([9, 1, 5, 5, 2, 8, 3])
    shares = Ranks(1, 3).shares(lengths)
    assert sorted(torch.cat(shares).tolist()) == list(range(7))
    again = Ranks(0, 3).shares(lengths)
    assert [share.tolist() for share in shares] == [share.tolist() for share in again]
    work = [int(lengths[share].sum()) for share in shares]
    assert max(work) - min(work) <= int(lengths.max())
    assert [len(share) for share in Ranks(0, 4).shares(torch.tensor([3]))] == [1, 0, 0, 0]


def test_rows_are_dealt_out_once() -> None:
    for number in (0, 1, 2, 7, 8):
        parts = [Ranks(index, 3).rows(number) for index in range(3)]
        assert [row for start, stop in parts for row in range(start, stop)] == list(range(number))


def test_alone_nothing_is_sent() -> None:
    ranks = Ranks()
    assert ranks.alone
    assert ranks.is_first
    assert ranks.total([1.0, 2.0]) == [1.0, 2.0]
    assert ranks.rows(5) == (0, 5)
    rows = np.arange(6).reshape(3, 2)
    assert ranks.joined(rows) is rows
