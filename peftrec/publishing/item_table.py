"""The item table of a run folder: ids, texts, titles and fields, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from peftrec.config import InputError
from peftrec.data import Catalogue
from peftrec.data.item_field import FieldValue, check_same_kind, field_value, fields_of

ITEMS = "items.jsonl"


def write_items(folder: Path, catalogue: Catalogue) -> None:
    """Write `items.jsonl` in catalogue order."""
    rows = zip(catalogue.ids, catalogue.titles, catalogue.texts, strict=True)
    with (folder / ITEMS).open("w", encoding="utf-8") as file:
        for place, (item_id, title, text) in enumerate(rows):
            row = {"item_id": item_id, "title": title, "text": text}
            fields = fields_of(catalogue.fields, place)
            # The columns stand in the first row, so that one that is missing everywhere is not forgotten.
            if place == 0 and catalogue.fields:
                fields = {column: fields.get(column) for column in catalogue.fields}
            file.write(json.dumps(row | ({"fields": fields} if fields else {}), ensure_ascii=False) + "\n")


def read_items(folder: Path) -> Catalogue:
    """Read what `write_items` wrote; rows without fields have none.

    Raises:
        InputError: naming the file, and where it can be told the line that is no item.
    """
    ids, titles, texts = [], [], []
    fields: dict[str, list[FieldValue]] = {}
    try:
        content = (folder / ITEMS).read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{folder / ITEMS}: cannot be read ({error})") from None
    # Not splitlines: a text may hold characters that Python, unlike JSON Lines, takes for line ends.
    for number, line in enumerate(content.rstrip("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
            item_id, title, text = row["item_id"], row["title"], row["text"]
            if not (isinstance(item_id, str) and isinstance(title, str) and isinstance(text, str)):
                raise TypeError("item_id, title and text are texts")
            # JSON can spell halves of characters, which no tokenizer and no file takes.
            (item_id + title + text).encode()
            own = row.get("fields", {})
            if not isinstance(own, dict):
                raise TypeError("fields are a mapping")
            values = {column: field_value(value, column) for column, value in own.items()}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{folder / ITEMS}, line {number}: is not an item ({error})") from None
        ids.append(item_id)
        titles.append(title)
        texts.append(text)
        for column, value in values.items():
            held = fields.setdefault(column, [])
            held += [None] * (number - 1 - len(held)) + [value]
    for column, held in fields.items():
        held += [None] * (len(ids) - len(held))
        check_same_kind(held, f"{folder / ITEMS}, field {column!r}")
    columns = {column: tuple(held) for column, held in fields.items()}
    return Catalogue(ids=tuple(ids), texts=tuple(texts), titles=tuple(titles), fields=columns)
