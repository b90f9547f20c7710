"""JSON files: none of them ends in anything but a value or an error of input."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftrec.config import InputError
from peftrec.publishing.json_file import read_json


def test_a_value_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, "é"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, "é"]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 200_000, "nested too deep"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"\xff", "can't decode"),
        (b"", "Expecting value"),
        (b"1" * 5000, "digits"),
    ],
)
def test_what_is_no_json_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: is damaged \(.*{told}"):
        read_json(tmp_path / "a.json")


def test_large_and_missing_files_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(InputError, match=r"a\.json: has 67,108,865 bytes; such a file has at most 67,108,864"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: is missing from the run folder"):
        read_json(tmp_path / "b.json")
    with pytest.raises(InputError, match="is damaged"):
        read_json(tmp_path)
