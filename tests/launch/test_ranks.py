"""What the processes of a launch tell each other; several are started in tests/training and tests/run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

from peftrec.config import InputError
from peftrec.launch import Ranks, roll_call


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


def test_who_has_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_call, "_LATE_SECONDS", 0.0)
    store: Any = HashStore()
    for index, count in enumerate((3, 2, 3, 1)):  # this process comes for the third time, too
        store.add(str(index), count - (index == 2))
    with (
        pytest.raises(InputError, match=r"process 1, 3 of 4 \(counted from 0\) does not answer process 2: .*Timed out"),
        roll_call.together(Ranks(2, 4, arrivals=store)),
    ):
        raise RuntimeError("Timed out waiting 6000ms")
    # All have come, and two give up with this one: the third hangs in the middle of it.
    met: Any = HashStore()
    for index in range(4):
        met.add(str(index), 3 - (index == 2))
    met.add("0 gives up", 1)
    met.add("3 gives up", 1)
    with (
        pytest.raises(InputError, match=r"process 1 of 4 \(counted from 0\) does not answer process 2: .*Timed out"),
        roll_call.together(Ranks(2, 4, arrivals=met)),
    ):
        raise RuntimeError("Timed out waiting 6000ms")
    with (
        pytest.raises(
            InputError, match=r"process 3 of 4 \(counted from 0\) lost the others, who are all there: broken"
        ),
        roll_call.together(Ranks(3, 4, arrivals=None)),
    ):
        raise RuntimeError("broken")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_of_four_processes_the_one_that_hangs_is_named(rank: int) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "4"]
    done = subprocess.run(
        [*words, str(Path(__file__).with_name("roll_probe.py")), str(rank)],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    said = re.findall(r"process (\d) says: process ([\d, ]+) of 4 \(counted from 0\) does not answer", done.stdout)
    assert sorted(said) == [(str(other), str(rank)) for other in range(4) if other != rank], done.stdout + done.stderr
