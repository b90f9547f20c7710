"""Files of impressions: what is kept, what is counted, and what is refused, with the line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import InputError
from peftrec.data import Dataset
from peftrec.data.impression import Impressions, read_impressions


def read(path: Path, dataset: Dataset, *lines: str) -> Impressions:
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_impressions(path, dataset, "test")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "impressions.tsv"


@pytest.fixture
def unseen(toy_dataset: Dataset) -> tuple[str, list[str]]:
    """A user, and items that this one has never had."""
    sequences = toy_dataset.sequences
    had = set(sequences.items[: sequences.lengths[0]].tolist())
    return sequences.user_ids[0], [item for n, item in enumerate(toy_dataset.catalogue.ids) if n not in had]


def test_an_item_that_is_there_twice_counts_once(
    file: Path, toy_dataset: Dataset, unseen: tuple[str, list[str]]
) -> None:
    user, (one, two, *_) = unseen
    found = read(file, toy_dataset, f"1\t{user}\t{one}\t{two}-0 {one}-0 {two}-1 {one}-0")
    places = toy_dataset.catalogue.places
    assert found.items.tolist() == [places[two], places[one]]
    assert found.clicked.tolist() == [True, False]
    assert found.left_out["candidates that are there twice"] == 2
    found = read(file, toy_dataset, f"1\t{user}\t\t{two}-1 {one}-0", f"2\t{user}\t\t{two}-1 {two}-1")
    assert len(found) == 1
    assert found.left_out["nothing but clicks"] == 1


def test_blank_lines_line_breaks_and_times(file: Path, toy_dataset: Dataset, unseen: tuple[str, list[str]]) -> None:
    user, (one, two, *_) = unseen
    lines = (f"1\t{user}\t11/11/2019 9:05:58 AM\t{one} {two}\t{two}-1 {one}-0\r", "", " ")
    found = read(file, toy_dataset, *lines)
    assert found.histories(0, 1).tolist() == [[toy_dataset.catalogue.places[item] for item in (one, two)]]
    packed = file.with_name("impressions.tsv.gz")
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_impressions(packed, toy_dataset, "test").items.tolist() == found.items.tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tu0\twine1", "line 2: has 3 columns; there must be id, user, .* separated by tabs"),
        ("1,u0,wine1,wine1-0", "line 2: has 1 columns"),
        ("1\tu0\twine1\twine2-2", "line 2: 'wine2-2' is no candidate; it must be such as N1-1 or N2-0"),
        ("1\tu0\twine1\twine2", "line 2: 'wine2' is no candidate"),
        ("impression_id\tuser_id\thistory\timpressions", "line 2: 'impressions' is no candidate"),
    ],
)
def test_malformed_lines(file: Path, toy_dataset: Dataset, line: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"impressions\.tsv, {message}"):
        read(file, toy_dataset, "1\tstranger\t\twine1-1 wine2-0", line)


def test_what_is_no_file_of_text(file: Path, toy_dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"no such file: .*impressions\.tsv \(evaluation\.impressions names it\)"):
        read_impressions(file, toy_dataset, "test")
    with pytest.raises(InputError, match=r"impressions\.tsv is empty"):
        read(file, toy_dataset, "")
    file.write_bytes(b"1\tu0\t\twine1-1 wine2-0\n1\tu0\t\xff\twine1-1 wine2-0\n")
    with pytest.raises(InputError, match=r"impressions\.tsv: byte 0xff at offset .* \(line 2\) is not UTF-8"):
        read_impressions(file, toy_dataset, "test")
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=r"is a folder, not a table \(evaluation\.impressions names it\)"):
        read_impressions(file, toy_dataset, "test")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("data.sessions={gap_minutes: 60}", "impressions are of users, but data.sessions cuts users into sessions"),
        ("user.time_intervals=true", "does not tell the times of its history, which this model reads"),
    ],
)
def test_models_that_impressions_say_too_little_for(
    make_recipe: Callable[..., Any], toy_dataset: Dataset, rule: str, message: str
) -> None:
    from peftrec.measuring import read_details

    with pytest.raises(InputError, match=f"evaluation.impressions: .*{message}"):
        read_details(make_recipe("evaluation.impressions=impressions.tsv", rule), toy_dataset, "test")
