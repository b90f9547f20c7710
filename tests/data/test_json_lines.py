"""Lines of text and of JSON, a part at a time, and the place where they break."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from peftrec.config import InputError
from peftrec.data.json_lines import bad_json_line, read_json_lines
from peftrec.data.text_file import read_lines


def values(path: Path, column: str = "a") -> list[str | None]:
    return [value for frame in read_json_lines(path, [column]) for value in frame[column]]


def test_values_come_as_text_whatever_their_type(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 12, "b": 1}\n{"a": "0012"}\n\n{"a": ["x", "\\u00e9"]}\r\n{"b": 2}\n{"a": null}\n{"a": 1.5}'
    )
    assert values(path) == ["12", "0012", '["x", "é"]', None, None, "1.5"]


def test_emoji_right_to_left_and_a_million_characters(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    texts = ["🧀👩‍🍳 cheese", "تفاحة חלב", "x" * 1_000_000, 'quote " and \\ and \n break']
    lines = [json.dumps({"a": text}, ensure_ascii=number % 2 == 0) for number, text in enumerate(texts)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert values(path) == texts


@pytest.mark.parametrize("batch_bytes", [1, 7, 1000])
@pytest.mark.parametrize("chunk_bytes", [1, 3, 1000])
def test_batches_are_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int, chunk_bytes: int
) -> None:
    monkeypatch.setattr("peftrec.data.text_file._CHUNK_BYTES", chunk_bytes)
    path = tmp_path / "t"
    content = "é\n\nlonger than a batch\nlast".encode()
    path.write_bytes(content)
    found = list(read_lines(path, batch_bytes=batch_bytes))
    assert b"".join(lines.content for lines in found) == content
    assert all(lines.content.endswith(b"\n") for lines in found[:-1])
    line = 1
    for lines in found:
        assert lines.first == line
        line += lines.content.count(b"\n")
    if batch_bytes == chunk_bytes == 1:
        assert len(found) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a":\n{"a": 2}\n', r"line 2 is no JSON object: '\{\"a\":'"),
        (b'{"a": 1}\n\n{"a": NaN}', r"line 3 is no JSON object"),
        (b"[1]\n", r"line 1 is no JSON object: '\[1\]'"),
        (b'{"a": 1}\n{"a": 1} {"a": 2}\n', r"line 2 is no JSON object"),
        (b'{"a": 1}\n' + b"{" * 100, r"line 2 is no JSON object: '\{{60}…'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.jsonl: {message}"):
        values(path)
    assert bad_json_line(path) is not None


def test_a_bad_line_far_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.data.json_lines.read_lines", lambda path: read_lines(path, batch_bytes=100))
    monkeypatch.setattr("peftrec.data.text_file._CHUNK_BYTES", 64)
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n' * 997 + "nothing\n" + '{"a": 1}\n' * 500)
    with pytest.raises(InputError, match=r"line 998 is no JSON object: 'nothing'"):
        values(path)
    path.write_bytes(b'{"a": 1}\n' * 500 + b'{"a": "\xe9"}\n')
    with pytest.raises(InputError, match=r"byte 0xe9 at offset 4,507 \(line 501\) is not UTF-8"):
        values(path)


def test_a_half_written_gzip_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    lines = [f'{{"a": "{number * 7919 % 10007}"}}\n' for number in range(5000)]
    whole = gzip.compress("".join(lines).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"t\.jsonl\.gz is not a whole gzip file: .*, in line ([\d,]+); ") as caught:
        values(path)
    line = int(str(caught.value).partition("in line ")[2].partition(";")[0].replace(",", ""))
    assert 1000 < line < 4000
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 20] = b"\xff" * 20
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError, match=r"is not a whole gzip file"):
        values(path)


def test_all_lines_are_objects(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"b": [1]}\n')
    assert bad_json_line(path) is None
