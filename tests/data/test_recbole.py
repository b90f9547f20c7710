"""RecBole's atomic files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import SOURCES, Columns, Dataset, load_dataset
from peftrec.data.sources.recbole import RecBoleConfig

INTER = (
    "user_id:token\titem_id:token\tstars:float\twhen:float\n"
    "u\t007\t4.0\t1400000100\nu\t42\t\t1400000000\nu\tz\t2\t1400000200\nv\tz\t5\t1400000300.0\n"
)
ITEM = (
    'item_id:token\tname:token_seq\tgenres:token_seq\tprices:float_seq\n007\tA "quoted" name\tSci Fi\t1 2.5\n'
    "42\tتفاحة 🍏\t\t\nz\tLast\tDrama\t3\n"
)
USER = "user_id:token\tage:float\tjob:token\nu\t24\twriter\nv\t30\t\n"
COLUMNS = Columns(time="when", rating="stars", title="name", event="stars")


def write(folder: Path, name: str = "x", **files: str) -> None:
    for suffix, text in {"inter": INTER, "item": ITEM, "user": USER, **files}.items():
        (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")


def load(folder: Path, **values: Any) -> Dataset:
    given = {"columns": COLUMNS, "template": "{name}. {genres}. {prices}", **values}
    return load_dataset(RecBoleConfig(root=str(folder.parent), folder=folder.name, **given))


def test_a_set_of_three_files(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = load(tmp_path, user_template="{age} years, {job}")
    assert dataset.catalogue.ids == ("007", "42", "z")
    assert dataset.catalogue.texts == ('A "quoted" name. Sci Fi. 1 2.5', "تفاحة 🍏", "Last. Drama. 3")
    assert dataset.sequences.user_ids == ("u", "v")
    assert dataset.sequences.items.tolist() == [1, 0, 2, 2]
    assert dataset.sequences.times is not None
    assert dataset.sequences.times[-1] == 1_400_000_300_000
    assert dataset.user_texts == ("24 years, writer", "30 years")


def test_separators_of_ones_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        inter="user_id:token;item_id:token\nu;a\nu;b\nu;a\n",
        item="item_id:token;title:token_seq;tags:token_seq\na;One, two;x|y z\nb;Two;x\n",
    )
    dataset = load(
        tmp_path, columns=Columns(), template="{title}: {tags}", timestamps="order", field_separator=";",
        seq_separator="|",
    )  # fmt: skip
    assert dataset.catalogue.texts == ("One, two: x, y z", "Two: x")
    assert dataset.sequences.items.tolist() == [0, 1, 0]


def test_one_set_among_several(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "y")
    with pytest.raises(InputError, match=r"holds 2 \.inter files \(x, y\); say in data\.dataset which"):
        load(tmp_path)
    assert len(load(tmp_path, dataset="y").catalogue) == 3
    with pytest.raises(InputError, match=r"no such file: .*z\.inter\. The folder holds x\.inter"):
        load(tmp_path, dataset="z")
    (tmp_path / "y.user").unlink()
    with pytest.raises(InputError, match=r"no such file: .*y\.user; data\.user_template reads it"):
        load(tmp_path, dataset="y", user_template="{age}")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"inter": "user_id\titem_id:token\nu\ta\n"}, "a RecBole header looks like 'user_id:token', got 'user_id'"),
        ({"inter": "user_id:text\nu\n"}, "column 'user_id' has the type 'text'; one of: token, token_seq, float"),
        ({"inter": "user_id:token\tuser_id:token\nu\tv\n"}, "the header names user_id more than once"),
        ({"inter": INTER.replace("1400000000", "noon")}, r"x\.inter: line 3, column 'when': 'noon' is no float, which"),
        ({"item": ITEM.replace("1 2.5", "1 two")}, r"x\.item: line 2, column 'prices': '1 two' is no float_seq"),
        ({"inter": INTER + "u\ta\tb\tc\td\n"}, r"x\.inter cannot be read: found more fields"),
        ({"inter": INTER.partition("\n")[0]}, r"x\.inter holds no rows"),
        ({"inter": ""}, r"x\.inter is empty"),
        ({"inter": INTER.replace("when", "then")}, r"column 'when' is missing; columns there: user_id, item_id, stars"),
    ],
)
def test_bad_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder: .*nowhere \(data\.folder: nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no \.inter file; say in data\.dataset"):
        load(tmp_path)


def test_sections() -> None:
    values = {"kind": "recbole", "folder": "x"}
    assert parse_section(RecBoleConfig, values, registry=SOURCES).seq_separator == " "
    for key, value in (("field_separator", "::"), ("field_separator", " "), ("seq_separator", "")):
        with pytest.raises(RecipeError, match=r"(field|seq)_separator: "):
            parse_section(RecBoleConfig, {**values, key: value}, registry=SOURCES)
