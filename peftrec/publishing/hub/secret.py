"""Tokens and passwords that stand in a text by mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peftrec.config import InputError, parse_yaml

_FORMS = {
    "a token of the Hub": r"\bhf_[A-Za-z0-9]{16,}",
    "an API key": r"\bsk-[A-Za-z0-9_-]{16,}",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an address with a password": r"[a-z][a-z0-9+.-]*://[^\s/@:]+:[^\s/@]+@",
}
# Of the texts of items, which others have written, only what can be nothing else.
_SURE = ("a token of the Hub", "an AWS access key", "a token of GitHub", "a private key")
_KEY = re.compile(r"(?i)(?:^|[._-])(?:api_?key|access_?key|secret(?:_?key)?|password|passwd|token)$")


def refuse_secrets(path: Path, shown: str) -> None:
    """See that a text file holds nothing that lets others in.

    Args:
        path: a text; JSON and YAML are also searched for keys such as `password`, JSON Lines for fewer forms of tokens.
        shown: how the file is called in messages.
    Raises:
        InputError: naming what it looks like, and its first letters alone.
    """
    text = path.read_text(encoding="utf-8")
    forms = _FORMS if path.suffix != ".jsonl" else {what: _FORMS[what] for what in _SURE}
    for what, form in forms.items():
        found = re.search(form, text)
        if found is not None:
            raise InputError(f"{shown}: holds what looks like {what} ({found[0][:6]}...); remove it, nothing was sent")
    for key, value in _pairs(_documents(path, text)):
        if _KEY.search(key) and isinstance(value, str) and value.strip():
            raise InputError(f"{shown}: the key '{key}' holds what may be a secret; remove it, nothing was sent")


def _documents(path: Path, text: str) -> list[Any]:
    if path.suffix == ".json":
        return [json.loads(text)]
    if path.suffix == ".yaml":
        return [parse_yaml(text, source=str(path))]
    return []


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys and values of nested plain values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key), inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)
