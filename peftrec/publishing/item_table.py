"""The item table of a run folder: ids, texts and titles, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from peftrec.config import InputError
from peftrec.data import Catalogue

ITEMS = "items.jsonl"


def write_items(folder: Path, catalogue: Catalogue) -> None:
    """Write `items.jsonl` in catalogue order."""
    rows = zip(catalogue.ids, catalogue.titles, catalogue.texts, strict=True)
    with (folder / ITEMS).open("w", encoding="utf-8") as file:
        for item_id, title, text in rows:
            file.write(json.dumps({"item_id": item_id, "title": title, "text": text}, ensure_ascii=False) + "\n")


def read_items(folder: Path) -> Catalogue:
    """Read what `write_items` wrote.

    Raises:
        InputError: naming the file and line that is no item.
    """
    ids, titles, texts = [], [], []
    # Not splitlines: a text may hold characters that Python, unlike JSON Lines, takes for line ends.
    for number, line in enumerate((folder / ITEMS).read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
            item_id, title, text = row["item_id"], row["title"], row["text"]
            if not (isinstance(item_id, str) and isinstance(title, str) and isinstance(text, str)):
                raise TypeError("item_id, title and text are texts")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / ITEMS}, line {number}: is not an item ({error})") from None
        ids.append(item_id)
        titles.append(title)
        texts.append(text)
    return Catalogue(ids=tuple(ids), texts=tuple(texts), titles=tuple(titles))
