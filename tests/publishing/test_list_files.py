"""Parts of a file of lists: what holds the lists of its users is taken, anything else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from peftrec.config import InputError
from peftrec.publishing.list_files import ListParts
from peftrec.retrieval import Recommendation

USERS = ["ann", "ben", "ann", "cy"]


def lists(*lengths: int) -> list[list[Recommendation]]:
    return [
        [Recommendation(rank=rank, score=0.5, item_id=f"i{rank}", title="tea") for rank in range(1, length + 1)]
        for length in lengths
    ]


@pytest.fixture(params=["parquet", "jsonl"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> ListParts:
    found = ListParts(tmp_path / f"lists.{request.param}")
    found.begin()
    return found


def write(parts: ListParts, users: Sequence[str], ranks: Sequence[int]) -> None:
    """Write a part row by row."""
    entries = [[Recommendation(rank=rank, score=0.5, item_id=f"i{rank}", title="tea")] for rank in ranks]
    parts.write(0, users, entries)


@pytest.mark.parametrize("lengths", [(3, 3, 3, 3), (2, 0, 1, 3), (0, 0, 0, 0), (3, 2, 0, 0)])
def test_lists_of_all_users_are_taken(lengths: tuple[int, ...], parts: ListParts) -> None:
    assert parts.write(0, USERS, lists(*lengths)) == sum(lengths)
    parts.check(0, USERS, sum(length > 0 for length in lengths), sum(lengths))
    with pytest.raises(InputError, match="where 13 in 4 were made for 4 users"):
        parts.check(0, USERS, 4, 13)


@pytest.mark.parametrize(
    ("users", "ranks"),
    [
        (["ann", "ann", "ben", "ben", "cy", "cy"], [1, 2, 1, 2, 1, 2]),
        (["ann", "ann", "ben", "ben", "cy", "cy", "ann", "ann"], [1, 2] * 4),
        (["ann", "ann", "ben", "ben", "ann", "ann", "dan", "dan"], [1, 2] * 4),
        (["ann", "ann", "ann", "ann", "ben", "ben", "cy", "cy"], [1, 2] * 4),
        (["ann", "ann", "ben", "ben", "ann", "ann", "cy", "cy"], [1, 2, 1, 2, 1, 2, 1, 3]),
        (["ann", "ann", "ben", "ben", "ann", "ann", "cy", "cy"], [2, 1, 1, 2, 1, 2, 1, 2]),
        (["ann", "ben", "ben", "ben", "ann", "ann", "cy", "cy"], [1, 2, 1, 2, 1, 2, 1, 2]),
    ],
    ids=["one is missing", "out of order", "a stranger", "another order", "a gap", "torn", "of two users"],
)
def test_other_lists_are_refused(users: list[str], ranks: list[int], parts: ListParts) -> None:
    write(parts, ["ann", "ann", "ben", "ben", "ann", "ann", "cy", "cy"], [1, 2] * 4)
    parts.check(0, USERS, 4, 8)
    write(parts, users, ranks)
    with pytest.raises(InputError, match="all processes must read the same table and write into one folder"):
        parts.check(0, USERS, 4, 8)


def test_a_part_that_is_not_there_is_named(parts: ListParts) -> None:
    with pytest.raises(InputError, match=rf"^{parts.folder}/000001\.\w+: is not there"):
        parts.check(1, USERS, 4, 8)


def test_parts_become_one_file_and_leave_nothing(parts: ListParts) -> None:
    parts.write(1, ["cy"], lists(1))
    parts.write(0, ["ann", "ben"], lists(2, 1))
    parts.finish(2)
    parts.remove()
    read = pl.read_parquet if parts.path.suffix == ".parquet" else pl.read_ndjson
    assert read(parts.path).select("user_id", "rank").rows() == [("ann", 1), ("ann", 2), ("ben", 1), ("cy", 1)]
    assert list(parts.path.parent.iterdir()) == [parts.path]
    # What older calls have left there, as a file or a folder, is in nobody's way.
    parts.folder.write_text("half")
    parts.begin()
    parts.write(0, ["ann"], lists(1))
    parts.begin()
    assert not list(parts.folder.iterdir())
