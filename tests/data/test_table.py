from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from peftrec.config import InputError, RecipeError
from peftrec.data.table import read_table, resolve_path, text_of
from peftrec.data.text_file import require_utf8

ROWS = [("0012", "a"), ("7", "ü, ö")]


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=["user_id", "item_id"], orient="row")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz", "CSV"])
def test_reads_every_suffix(tmp_path: Path, frame: pl.DataFrame, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    separator = "\t" if suffix.startswith("tsv") else ","
    if suffix == "parquet":
        frame.write_parquet(path)
    elif suffix.startswith("jsonl"):
        content = frame.write_ndjson().encode()
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    else:
        content = frame.write_csv(separator=separator).encode()
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    table = read_table(path)
    assert table.frame.rows() == ROWS
    assert table.column_names == ("user_id", "item_id")
    assert read_table(path, ["item_id", "absent"]).frame.columns == ["item_id"]


def test_csv_details(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n0012,"x\ny"\r\n\r\n,2\r\n')
    assert read_table(path).frame.rows() == [("0012", "x\ny"), (None, "2")]


def test_missing_file_names_the_full_path_and_the_root(tmp_path: Path) -> None:
    path = resolve_path("ml/x.csv", str(tmp_path))
    with pytest.raises(InputError, match="no such file") as caught:
        read_table(path, origin=f"data.items: ml/x.csv, data.root: {tmp_path}")
    assert str(tmp_path / "ml" / "x.csv") in str(caught.value)
    assert f"data.root: {tmp_path}" in str(caught.value)


def test_paths(tmp_path: Path) -> None:
    assert resolve_path("a/b.csv", str(tmp_path)) == tmp_path / "a" / "b.csv"
    assert resolve_path(str(tmp_path / "c.csv"), "/elsewhere") == tmp_path / "c.csv"


def test_json_lines_of_mixed_types(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1, "b": ["x"]}\n{"a": "0012", "b": "y"}\n{"a": null}\n')
    frame = read_table(path).frame
    assert frame["a"].to_list() == ["1", "0012", None]
    assert frame["b"].to_list() == ['["x"]', "y", None]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        read_table(tmp_path / name)


def test_header_without_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"t\.csv holds no rows"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_not_utf8_names_line_and_offset(tmp_path: Path, name: str) -> None:
    content = b'{"a":"b"}\n{"a":"caf\xe9"}\n' if name == "t.jsonl" else b"a,b\nc,caf\xe9\n"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"byte 0xe9 at offset {content.index(0xE9)} \(line 2\) is not UTF-8"):
        read_table(tmp_path / name)


def test_not_utf8_far_in_and_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.data.text_file._CHUNK_BYTES", 3)
    path = tmp_path / "t.csv"
    path.write_bytes("aé\n€uro\n".encode())
    require_utf8(path)
    path.write_bytes("aé\n€\n".encode() + b"ab\xe2\x82(")
    with pytest.raises(InputError, match=r"offset 10 \(line 3\)"):
        require_utf8(path)
    path.write_bytes("aé\n".encode() + b"\xe2\x82")
    with pytest.raises(InputError, match=r"offset 4 \(line 2\)"):
        require_utf8(path)


def test_other_errors(tmp_path: Path) -> None:
    for name, content, message in (
        ("t.csv", b"a,b\n1,2,3\n", "found more fields"),
        ("t.jsonl", b'{"a":1}\n{"a":\n', r"cannot be read as \.jsonl: line 2 is no JSON object: '\{\"a\":'"),
        ("t.parquet", b"no parquet", "cannot be read as .parquet"),
        ("t.csv.gz", b"a,b\n1,2\n", r"is no gzip file, .* ends in \.gz; if it is plain text, name it t\.csv$"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n")[:1], "is not a whole gzip file: .*, in line 1; fetch it again"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n") + b"x,y", "not a whole gzip file: .*, in line 3; fetch it again"),
        ("t.jsonl.gz", gzip.compress(b'{"a":1}\n')[:-8], "not a whole gzip file: .*, in line 2"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path / "folder.csv")
    with pytest.raises(RecipeError, match=r"must end in one of \.csv, \.csv\.gz"):
        read_table(tmp_path / "t.xlsx")


def test_missing_column_lists_those_there(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'usr' \(named by data\.columns\.user\)") as caught:
        read_table(tmp_path / "t.csv", ["usr", "item"]).column("usr", "data.columns.user")
    assert "Did you mean 'user'?" in str(caught.value)
    assert "Columns there: user, item" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series(["0012", None]), ["0012", None]),
        (pl.Series([1.0, 12.0, None]), ["1", "12", None]),
        (pl.Series([1.0, float("nan")]), ["1", None]),
        (pl.Series([1.5, 2.0]), ["1.5", "2.0"]),
        (pl.Series([7, 12]), ["7", "12"]),
        (pl.Series([["a", "b"], [], None]), ["a, b", "", None]),
        (pl.Series(["x"], dtype=pl.Categorical), ["x"]),
    ],
)
def test_text_of(values: pl.Series, expected: list[str | None]) -> None:
    assert text_of(values, "t").to_list() == expected


@pytest.mark.parametrize("values", [pl.Series([{"a": 1}]), pl.Series([[{"a": 1}]]), pl.Series([b"x"])])
def test_text_of_refuses_nested_values(values: pl.Series) -> None:
    with pytest.raises(InputError, match="flatten it"):
        text_of(values, "t")
