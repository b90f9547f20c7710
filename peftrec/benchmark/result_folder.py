"""The results of a suite: one JSON a run, and the lock of each run that is being made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peftrec.benchmark.report.schema import ResultSchema
from peftrec.config import InputError
from peftrec.encoders.file_lock import file_lock
from peftrec.publishing import replace_text

Result = Mapping[str, Any]


class ResultFolder:
    """Results by the names of their runs.

    Args:
        folder: of one suite; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._schema = folder, ResultSchema()
        self.faults: dict[str, str] = {}
        """Why files are no results, by their names without ending, as they were when last read."""

    def read(self) -> dict[str, Result]:
        """Return what is there; what is broken, foreign, or has the name of another run is told in `faults`."""
        found, faults = dict[str, Result](), dict[str, str]()
        for path in sorted(self.folder.glob("*.json")):
            try:
                content = self._schema.read(path)
            except InputError as error:
                faults[path.stem] = f"{self.folder}/{error}; move it away"
                continue
            if content["run"]["name"] != path.stem:
                faults[path.stem] = f"{path}: calls itself '{content['run']['name']}'; a file has the name of its run"
                continue
            found[path.stem] = content
        self.faults = faults
        return found

    def write(self, content: Result) -> None:
        """Write a result, whole or not at all.

        Raises:
            InputError: if it is not of the published form, or holds a number that JSON does not have.
        """
        name = content["run"]["name"]
        self._schema.check(content, name)
        try:
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise InputError(f"{name}: no JSON can be made of its result ({error})") from None
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_text(self._path(name), text + "\n")

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[int | None]:
        """Hold the lock of a run, and yield its open file; None where another process holds it.

        A process that inherits the open file holds the lock too, so that a training outlives who started it without
        being started twice.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / f".{name}.lock", wait=False) as lock:
            yield lock

    def cases_path(self, name: str) -> Path:
        """Return where the ranks of a run's cases lie."""
        return self.folder / f"{name}.parquet"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def reached(content: Result) -> float | None:
    """Return the validation metric that chooses among runs; None for one that did not end well."""
    if content["status"]["state"] != "ok":
        return None
    return float(content["valid"]["metrics"][content["recipe"]["training"]["metric"]])
