"""A file of the log without a user."""

from __future__ import annotations

import json
import os
from pathlib import Path


def without_user(path: Path, user: str) -> int:
    """Take a user's name out of the lines of a file, which is replaced as a whole or not at all.

    Args:
        path: of JSON objects, one a line, which nobody else writes to meanwhile.
        user: as the lines have it under `user`.
    Returns:
        How many lines named the user.
    Raises:
        OSError: if it cannot be written anew.
    """
    mark = json.dumps({"user": user}, ensure_ascii=False)[1:-1].encode("utf-8", "backslashreplace")
    with path.open("rb") as lines:
        if not any(mark in line for line in lines):
            return 0
    fresh, count = path.with_name(f"{path.name}.new"), 0
    with path.open("rb") as lines, fresh.open("wb") as kept:
        os.fchmod(kept.fileno(), os.fstat(lines.fileno()).st_mode & 0o777)
        for line in lines:
            if mark in line:
                count += 1
                kept.write(_redacted(line))
            else:
                kept.write(line)
        kept.flush()
        os.fsync(kept.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power cut could bring the old file back
    finally:
        os.close(folder)
    return count


def _redacted(line: bytes) -> bytes:
    """Return a line without its user; nothing of one that a crash has left in pieces."""
    try:
        row = json.loads(line)
        del row["user"]
    except (ValueError, KeyError, TypeError):
        return b""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
