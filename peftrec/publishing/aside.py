"""A file written beside its place, which it takes only when it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a name of this process, and put it in its place when it is on the disk.

    Args:
        path: of the file; what stands there is replaced, or left as it is where an error is raised.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
