"""Text files as bytes, plain or gzip-compressed: whole lines at a time, and where they stop being readable."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import cast

from peftrec.config import InputError

_CHUNK_BYTES = 1 << 20
_BATCH_BYTES = 1 << 25
_GZIP_START = b"\x1f\x8b"


@dataclass(frozen=True)
class Lines:
    """Some whole lines of a file.

    Args:
        content: the lines, UTF-8, each with its line break; the last line of a file may lack it.
        first: the number of the first of them, from 1.
    """

    content: bytes
    first: int


def require_file(path: Path, origin: str = "") -> None:
    """Refuses what is no file, or an empty one.

    Args:
        path: the file.
        origin: how the recipe came to this path, appended to the message.
    Raises:
        InputError: naming the path.
    """
    came_from = f" ({origin})" if origin else ""
    if not path.exists():
        raise InputError(f"no such file: {path}{came_from}")
    if not path.is_file():
        raise InputError(f"{path} is a folder, not a table{came_from}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: no header, no rows")


def read_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, uncompressed where its name ends in .gz.

    Args:
        path: the file.
    Raises:
        InputError: if a gzip file is cut off or damaged, naming the line where that is, or is none at all.
    """
    line = 1
    try:
        with _open_bytes(path) as file:
            while chunk := file.read1(_CHUNK_BYTES):  # read() would lose what stands before the break
                yield chunk
                line += chunk.count(b"\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        with path.open("rb") as file:
            start = file.read(len(_GZIP_START))
        if not _GZIP_START.startswith(start):
            raise InputError(
                f"{path} is no gzip file, though its name ends in {path.suffix}; if it is plain text, name it "
                f"{path.stem}"
            ) from error
        raise InputError(f"{path} is not a whole gzip file: {error}, in line {line:,}; fetch it again") from error


def read_lines(path: Path, *, batch_bytes: int = _BATCH_BYTES) -> Iterator[Lines]:
    """A file's lines, so many at a time that memory does not grow with the file.

    Args:
        path: the file, gzip-compressed where its name ends in .gz.
        batch_bytes: about how many bytes come at once; a longer line comes whole.
    Raises:
        InputError: if a gzip file is cut off, or a line is not UTF-8; it names file and line.
    """
    parts: list[bytes] = []
    size, first, offset = 0, 1, 0
    for chunk in read_chunks(path):
        parts.append(chunk)
        size += len(chunk)
        if size < batch_bytes or b"\n" not in chunk:
            continue
        content, line_break, tail = b"".join(parts).rpartition(b"\n")
        lines = Lines(content + line_break, first)
        _refuse_other_encodings(path, lines, offset)
        yield lines
        first += lines.content.count(b"\n")
        offset += len(lines.content)
        parts, size = [tail], len(tail)
    if rest := b"".join(parts):
        lines = Lines(rest, first)
        _refuse_other_encodings(path, lines, offset)
        yield lines


def require_utf8(path: Path) -> None:
    """Reads a text file through and refuses it at the first byte that is not UTF-8.

    Args:
        path: the file, gzip-compressed where its name ends in .gz (offsets are then of the uncompressed text).
    Raises:
        InputError: naming the file, the line (from 1) and the byte offset (from 0).
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    for chunk in read_chunks(path):
        pending = decoder.getstate()[0]
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            at = error.start - len(pending)
            line += chunk.count(b"\n", 0, max(at, 0))
            raise InputError(_not_utf8(path, offset + at, line, error.object[error.start])) from error
        offset += len(chunk)
        line += chunk.count(b"\n")
    if decoder.getstate()[0]:
        pending = decoder.getstate()[0]
        raise InputError(_not_utf8(path, offset - len(pending), line, pending[0]))


def read_text(path: Path) -> str:
    """A whole file as text: UTF-8, or Latin-1 where it is not that."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _refuse_other_encodings(path: Path, lines: Lines, offset: int) -> None:
    try:
        lines.content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = lines.first + lines.content.count(b"\n", 0, error.start)
        raise InputError(_not_utf8(path, offset + error.start, line, lines.content[error.start])) from error


def _open_bytes(path: Path) -> BufferedReader:
    # A GzipFile has all of it that is used here.
    return cast(BufferedReader, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _not_utf8(path: Path, offset: int, line: int, byte: int) -> str:
    return (
        f"{path}: byte 0x{byte:02x} at offset {offset:,} (line {line:,}) is not UTF-8; "
        f"convert the file first, e.g. iconv -f latin1 -t utf-8"
    )
