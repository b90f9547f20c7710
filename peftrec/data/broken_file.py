"""Which of several data files cannot be read, and where: for readers whose errors name neither."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from peftrec.config import InputError
from peftrec.data.json_lines import bad_json_line
from peftrec.data.text_file import read_chunks, require_file, require_utf8

_CHUNK_ROWS = 10_000


def broken_file(paths: Iterable[Path]) -> str | None:
    """The first file that cannot be read and the place where it breaks, in words; None where all can be.

    JSON and JSON Lines, CSV, TSV and plain text, each with .gz too, and Parquet and Arrow files are read through, a
    part at a time (but a .json file at once); others are passed over.

    Args:
        paths: the files, in the order in which they are looked at.
    """
    for path in paths:
        try:
            _check(path)
        except InputError as error:
            return str(error)
    return None


def _check(path: Path) -> None:
    """Raises an InputError that names the file if it cannot be read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    form = (suffixes[:-1] if zipped else suffixes)[-1:]
    check = _CHECKS.get(form[0]) if form else None
    if check is None and not zipped:
        return
    require_file(path)
    if check in (_check_parquet, _check_arrow):
        _binary(path, check)
    elif check is None:
        for _ in read_chunks(path):
            pass
    else:
        require_utf8(path)
        check(path)


def _binary(path: Path, check: Callable[[Path], None]) -> None:
    try:
        check(path)
    except (OSError, ValueError) as error:  # pyarrow's own are of both
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}; fetch it again") from error


def _check_parquet(path: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for _ in file.iter_batches(_CHUNK_ROWS):
            pass


def _check_arrow(path: Path) -> None:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        for _ in pa.ipc.open_stream(source):
            pass


def _check_json_lines(path: Path) -> None:
    place = bad_json_line(path)
    if place is not None:
        raise InputError(f"{path}: {place}; every line must be one JSON object: mend it, or fetch the file again")


def _check_json(path: Path) -> None:
    """A .json file holds one value, such as a list of objects, or is JSON Lines."""
    content = b"".join(read_chunks(path))
    try:
        json.loads(content)
    except ValueError as error:
        if not content.lstrip().startswith(b"["):
            _check_json_lines(path)
            return
        raise InputError(f"{path} is no JSON: {error}; mend it, or fetch it again") from error


def _check_delimited(path: Path) -> None:
    import pandas as pd  # which `datasets` reads such files with: what it says of a line is what stopped it

    separator = "\t" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else ","
    try:
        with pd.read_csv(path, sep=separator, dtype=str, chunksize=_CHUNK_ROWS) as chunks:
            for _ in chunks:
                pass
    except ValueError as error:  # pandas' own are of it
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: {reason}; every line needs as many fields as the header") from error


def _check_text(_: Path) -> None:
    """Any text in UTF-8 will do."""


_CHECKS = {
    ".jsonl": _check_json_lines,
    ".ndjson": _check_json_lines,
    ".json": _check_json,
    ".csv": _check_delimited,
    ".tsv": _check_delimited,
    ".txt": _check_text,
    ".parquet": _check_parquet,
    ".arrow": _check_arrow,
}
