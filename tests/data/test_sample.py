"""A random part of the users, the same one on every run and in every order of the rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import CleaningConfig, Dataset, SampleConfig, load_dataset
from peftrec.data.sources.movielens import MovieLensConfig
from peftrec.data.sources.tables import TablesConfig

if TYPE_CHECKING:
    from .conftest import Workspace

HEADER = "user_id,item_id,timestamp\n"
# Users of four events each, but for the last ten, who have one.
ROWS = [f"u{user},{item},{1000 + user + 60 * time}\n" for user in range(40) for time, item in enumerate("bcde")]
ROWS += [f"u{user},b,1000\n" for user in range(40, 50)]


def load_sample(workspace: Workspace, size: int, seed: int = 0, rows: list[str] = ROWS, **values: Any) -> Dataset:
    workspace.write("interactions.csv", HEADER + "".join(rows))
    return workspace.load(sample=SampleConfig(users=size, seed=seed), **values)


def histories(dataset: Dataset) -> dict[str, list[int]]:
    sequences = dataset.sequences
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    return {
        user: sequences.items[start:stop].tolist()
        for user, (start, stop) in zip(sequences.user_ids, bounds, strict=True)
    }


def test_whole_users_and_all_items_stay(workspace: Workspace) -> None:
    dataset = load_sample(workspace, 12)
    assert len(dataset.sequences) == 12
    assert len(dataset.catalogue) == 5
    everything = histories(workspace.load())
    assert len(everything) == 50
    for user, items in histories(dataset).items():
        assert items == everything[user]
    # In order of first appearance, as ever.
    assert list(dataset.sequences.user_ids) == [user for user in everything if user in dataset.sequences.user_ids]
    assert dataset.report.removed("sample of 12 users", "users") == 38
    assert dataset.report.removed("sample of 12 users") == 170 - len(dataset.sequences.items)
    assert "seed 0; all items stay" in str(dataset.report)


def test_the_order_of_the_rows_does_not_matter(workspace: Workspace) -> None:
    expected = histories(load_sample(workspace, 12, 3))
    for number in range(4):
        shuffled = list(ROWS)
        random.Random(number).shuffle(shuffled)
        assert histories(load_sample(workspace, 12, 3, shuffled)) == expected
    assert set(expected) != set(histories(load_sample(workspace, 12, 4)))


def test_the_draw_is_pinned(workspace: Workspace) -> None:
    """Another draw would make other data of every recipe with a sample."""
    assert sorted(load_sample(workspace, 4).sequences.user_ids) == ["u12", "u25", "u3", "u41"]


def test_a_larger_sample_holds_the_smaller(workspace: Workspace) -> None:
    users = [set(load_sample(workspace, number, 7).sequences.user_ids) for number in (5, 20, 50)]
    assert users[0] < users[1] < users[2]
    assert len(users[2]) == 50
    assert load_sample(workspace, 50, 7).report.removed("sample of 50 users", "users") == 0


def test_drawn_from_those_that_cleaning_left(workspace: Workspace) -> None:
    cleaning = CleaningConfig(min_user_events=2)
    dataset = load_sample(workspace, 40, cleaning=cleaning)
    assert dataset.sequences.user_ids == tuple(f"u{user}" for user in range(40))
    message = r"interactions\.csv: data\.sample\.users asks for 41 users, but cleaning left 40; ask for at most so"
    with pytest.raises(InputError, match=message):
        load_sample(workspace, 41, cleaning=cleaning)


def test_users_keep_their_texts(workspace: Workspace) -> None:
    workspace.write("users.csv", "user_id,age\n" + "".join(f"u{user},{user}\n" for user in range(50)))
    dataset = load_sample(workspace, 9, 5, users="users.csv", user_template="{age}")
    assert dataset.user_texts == tuple(user.removeprefix("u") for user in dataset.sequences.user_ids)
    assert "0 users without attributes" in str(dataset.report)


def test_in_a_recipe() -> None:
    files = {"interactions": "i.csv", "items": "t.csv"}
    config = parse_section(TablesConfig, {**files, "sample": {"users": 100, "seed": 4}}, path="data")
    assert config.sample == SampleConfig(users=100, seed=4)
    assert parse_section(TablesConfig, files, path="data").sample is None
    for sample, message in (
        ({"users": 0}, r"^data\.sample\.users: 0 is out of range; it must be >= 1"),
        ({"users": 5, "seed": -1}, r"^data\.sample\.seed: -1 is out of range"),
        ({"seed": 1}, r"^data\.sample\.users: missing"),
        (100, r"^data\.sample: expected a section"),
    ):
        with pytest.raises(RecipeError, match=message):
            parse_section(TablesConfig, {**files, "sample": sample}, path="data")


def test_a_real_sample(shared_data: Path) -> None:
    dataset = load_dataset(MovieLensConfig(root=str(shared_data), sample=SampleConfig(users=100, seed=1)))
    assert (len(dataset.sequences), len(dataset.catalogue), len(dataset.split.test)) == (100, 1682, 100)
