"""What the documentation of a choice in a recipe says of it."""

from __future__ import annotations

import inspect
import re


def sentence(section: object) -> str:
    """Return the first sentence of the documentation of a section's class, without its full stop."""
    return re.split(r"(?<=[.])\s", _text(section), maxsplit=1)[0].rstrip(".")


def source(section: object) -> str:
    """Return the published source that the documentation names, on one line; "" where it names none."""
    match = re.search(r"^Source:\s*(.*?)(?=\n\n|\n[A-Z][a-z]+:\n|\Z)", _text(section), re.DOTALL | re.MULTILINE)
    return "" if match is None else " ".join(match[1].split()).rstrip(".")


def _text(section: object) -> str:
    # What a class inherits would be the documentation of something else; Python may run without any.
    return inspect.cleandoc(type(section).__doc__ or "")
