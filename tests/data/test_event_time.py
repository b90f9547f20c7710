"""Times beside inputs and histories."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from peftrec.config import InputError
from peftrec.data import Cases, Sequences, TrainingWindows
from peftrec.data.given_history import event_kinds, event_times, right_aligned

if TYPE_CHECKING:
    from .conftest import Workspace

LATE = 1_700_000_000_123


def test_times_of_histories(make_sequences: Callable[..., Sequences]) -> None:
    plain = make_sequences([[1, 2, 3], [4], [5, 6, 7, 8]])
    sequences = make_sequences([[1, 2, 3], [4], [5, 6, 7, 8]], [[1, 2, 3], [4], [10, 20, 30, LATE]])
    cases = Cases(np.array([2, 1, 0]), np.array([4, 0, 2]), np.array([8, 4, 3]))
    assert cases.time_histories(plain, 0, 3) is None
    assert plain.gather_times(plain.offsets[:-1], plain.lengths, 4) is None
    found = cases.time_histories(sequences, 0, 3)
    assert found is not None
    assert found.dtype == np.int64
    assert found.tolist() == [[10, 20, 30, LATE], [-1, -1, -1, -1], [-1, -1, 1, 2]]
    shorter = cases.time_histories(sequences, 0, 99, 2)
    assert shorter is not None
    assert shorter.tolist() == [[30, LATE], [-1, -1], [1, 2]]
    with pytest.raises(ValueError, match="max_length must be at least 1"):
        cases.time_histories(sequences, 0, 1, 0)


def test_batches_hold_the_time_of_each_input(workspace: Workspace) -> None:
    rows = "".join(
        f"u{user},{'bcd'[(user + event) % 3]},1,{1_600_000_000 + 7 * user + event**3}\n"
        for user in range(12)
        for event in range(3 + user)
    )
    workspace.write("interactions.csv", "user_id,item_id,rating,timestamp\n" + rows)
    dataset = workspace.load()
    sequences = dataset.sequences
    assert sequences.times is not None
    for epoch in range(2):
        for batch in TrainingWindows(dataset, 3).epoch(1, epoch, 4):
            assert batch.times is not None
            assert batch.times.shape == batch.inputs.shape
            assert ((batch.times < 0) == (batch.inputs < 0)).all()
            for row, user in enumerate(batch.users):
                first = int(sequences.offsets[user] + batch.starts[row])
                times = [int(time) for time in batch.times[row] if time >= 0]
                assert times == sequences.times[first : first + len(times)].tolist()
                assert times[0] % 1000 == 0
    ordered = workspace.load(timestamps="order")
    assert all(batch.times is None for batch in TrainingWindows(ordered, 3).epoch(0, 0, 4))


def test_histories_given_by_hand() -> None:
    histories = [["a", 7, "a"], [], ["7"]]
    assert right_aligned([[0, 1, 0], [], [1]]).tolist() == [[0, 1, 0], [-1, -1, -1], [-1, -1, 1]]
    assert right_aligned([[]]).tolist() == [[-1]]
    words = {"view": "saw", "cart": " kept ", "look": "saw"}
    kinds = event_kinds(words, histories, [["view", "cart", "look"], [], ["cart"]])
    assert kinds.tolist() == [[0, 1, 0], [-1, -1, -1], [-1, -1, 1]]
    times = event_times(histories, [[1_600_000_000, 1_600_000_000.5, "1600000002"], [], [1_600_000_009]])
    assert times.tolist() == [
        [1_600_000_000_000, 1_600_000_000_500, 1_600_000_002_000],
        [-1, -1, -1],
        [-1, -1, 1_600_000_009_000],
    ]
    assert event_times([["a"], []], None).tolist() == [[0], [-1]]
    assert event_times([[], []], [[], []]).tolist() == [[-1], [-1]]
    with pytest.raises(InputError, match="a history of 3 items needs its times"):
        event_times(histories, None)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([[1, 2], [3, "x"], ["y", 5]], "times: place 2 holds 'x'"),
        ([[1, 2], [3, "x"], [3, ""]], "times: place 2 holds 'x'"),
        ([[1, 2], [3, ""], [3, "x"]], "times: an empty one is no time"),
        ([[], [], [1_600_000_000, 0], [1_600_000_000_000] * 2, [5, 9]],
         "times: 1600000000000 is read as milliseconds since 1970, but 1600000000 of a history before it as seconds"),
        ([[1, 2], ["2024-05-01", "2024-05-02"]], "2024-05-01 is read as ISO 8601 dates, but 1 of a history before"),
    ],
)  # fmt: skip
def test_places_are_named_within_a_history(times: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        event_times([["tea1"] * len(row) for row in times], times)
