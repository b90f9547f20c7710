"""JSON files checked against the published form of a result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from peftrec.config import InputError

_VERSION = 1
_LONGEST = 160


class ResultSchema:
    """The form that one result has, `peftrec/benchmark/result.schema.json`.

    Raises:
        InputError: if jsonschema is not installed.
    """

    def __init__(self) -> None:
        try:
            import jsonschema
        except ImportError:
            raise InputError("a report checks its results with jsonschema; pip install 'peftrec[benchmark]'") from None
        text = resources.files("peftrec.benchmark").joinpath("result.schema.json").read_text(encoding="utf-8")
        self._validator = jsonschema.Draft202012Validator(json.loads(text))
        self._best_match = jsonschema.exceptions.best_match

    def read(self, path: Path) -> Mapping[str, Any]:
        """Read a file.

        Args:
            path: of the JSON.
        Raises:
            InputError: if it cannot be read, is no JSON, or is not of the form; with the place in it.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path.name}: cannot be read as JSON ({error})") from None
        if not isinstance(content, dict) or "schema_version" not in content:
            raise InputError(f"{path.name}: is no result of a benchmark (it has no schema_version)")
        if content["schema_version"] != _VERSION:
            raise InputError(
                f"{path.name}: has schema_version {content['schema_version']!r}, {_VERSION} is what is read"
            )
        self.check(content, path.name)
        found: Mapping[str, Any] = content
        return found

    def check(self, content: Any, name: str) -> None:
        """See that content is of the form.

        Args:
            content: what a file holds, or is to hold.
            name: of it, for the message.
        Raises:
            InputError: with the place in it.
        """
        fault = self._best_match(self._validator.iter_errors(content))
        if fault is not None:
            place = ".".join(map(str, fault.absolute_path)) or "the whole"
            raise InputError(f"{name}: is no result of a benchmark: {place}: {_shortened(fault.message)}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _shortened(message: str) -> str:
    """Keep both ends of a message that quotes the content: what is wrong with it stands at the end."""
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
