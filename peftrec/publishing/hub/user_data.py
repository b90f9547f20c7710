"""That no file which is published tells of single users."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import safe_open

from peftrec.config import InputError, parse_yaml
from peftrec.publishing.manifest import PRIVATE

_USER = "user_id"
_COLUMNS = frozenset({_USER, "user_ids"})
# What stands between words in texts, JSON, YAML and tables.
_BETWEEN = re.compile(r"[\s\"'`,;:=|\[\](){}<>]+")
_SHORTEST_NUMBER, _SHORTEST_WORD = 6, 8


def known_users(folder: Path) -> frozenset[str] | None:
    """Return the users that the private files of a run name, those whose ids can be told from words and figures.

    Ids of a few digits, or of a few letters alone, stand in every text; of those only columns of users tell.

    Returns:
        The ids; None where no private file names users, as in a run that was pulled.
    Raises:
        InputError: if a private file cannot be read, so that nobody can be looked for by it.
    """
    columns = []
    for path in sorted((folder / PRIVATE).rglob("*.parquet")):
        try:
            if _USER in pl.read_parquet_schema(path):
                columns.append(pl.read_parquet(path, columns=[_USER])[_USER])
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(
                f"{path}: cannot be read ({str(error).splitlines()[0]}), so that what is published cannot be searched "
                f"for its users; mend or remove it"
            ) from None
    if not columns:
        return None
    return frozenset(user for column in columns for user in map(str, column) if _is_telling(user))


def refuse_users(folder: Path, names: Iterable[str], users: frozenset[str], shown: str) -> None:
    """See that files hold no column of users, and name none of those that are known.

    Args:
        folder: where they lie.
        names: of the files.
        users: from `known_users`.
        shown: how the folder is called in messages.
    Raises:
        InputError: naming the first file that does.
    """
    for name in names:
        path = folder / name
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as tensors:
                keys = set(tensors.keys())
        else:
            text = path.read_text(encoding="utf-8")
            keys = _keys(name, text)
            # Items have texts of their own, in which a user's name may be any word.
            told = set() if path.suffix == ".jsonl" else users & _words(name, text)
            if told:
                raise InputError(
                    f"{shown}/{name}: names a user of the data ({len(told)} of them, by their ids); nothing was sent"
                )
        if keys & _COLUMNS:
            raise InputError(
                f"{shown}/{name}: has a column of users ('{sorted(keys & _COLUMNS)[0]}'); nothing was sent"
            )


def _is_telling(user: str) -> bool:
    if user.isdecimal():
        return len(user) >= _SHORTEST_NUMBER
    mixed = any(sign.isdecimal() for sign in user) and any(sign.isalpha() for sign in user)
    return (mixed and len(user) > 1) or "@" in user or len(user) >= _SHORTEST_WORD


def _words(name: str, text: str) -> set[str]:
    """Return the words of a text; figures are none, which many a user's id would equal by chance."""
    if name.endswith((".json", ".yaml")):
        content = json.loads(text) if name.endswith(".json") else parse_yaml(text, source=name)
        return {word for string in _strings(content) for word in _BETWEEN.split(string)}
    return {word for word in _BETWEEN.split(text) if not word.isdecimal()}


def _keys(name: str, text: str) -> set[str]:
    """Return the keys of a table; those of settings may say what a column is called."""
    if name.endswith(".jsonl"):
        return {key for line in text.split("\n") if line.strip() for key in json.loads(line)}
    if name.rpartition("/")[2] in ("metrics.json", "attributes.json"):
        return set(_strings(json.loads(text), values=False))
    return set()


def _strings(value: Any, *, values: bool = True) -> Iterator[str]:
    """Yield all keys of nested plain values, and all values that are texts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner, values=values)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, values=values)
    elif values and isinstance(value, str):
        yield value
