"""Tables on disk to a data set, and every way in which they can be wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import peftrec.data
from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import SOURCES, CleaningConfig, Columns, DataConfig, TrainingWindows, load_dataset
from peftrec.data.sources.tables import TablesConfig
from peftrec.data.split import GlobalTime

if TYPE_CHECKING:
    from .conftest import Workspace


def test_from_tables_to_dataset(workspace: Workspace) -> None:
    dataset = workspace.load(template="{title}. {category}")
    assert dataset.catalogue.ids == ("0012", "b", "c", "d", "e")
    assert dataset.catalogue.titles == ("Red Wine", "Blue Cheese", "Green Tea", "Black Bread", "White Rice")
    assert dataset.catalogue.texts[1:3] == ("Blue Cheese. Food", "Green Tea")
    assert dataset.sequences.user_ids == ("u1", "u2", "u3")
    assert dataset.sequences.offsets.tolist() == [0, 3, 6, 7]
    assert dataset.sequences.items.tolist() == [0, 1, 2, 1, 0, 3, 2]
    assert dataset.sequences.times is not None
    assert dataset.sequences.times[:2].tolist() == [1_700_000_000_000, 1_700_000_100_000]
    assert dataset.split.train_lengths.tolist() == [1, 1, 1]
    assert dataset.split.test.targets.tolist() == [2, 3]
    assert dataset.item_counts().tolist() == [1, 1, 1, 0, 0]  # e is cold, and still there


def test_a_user_with_one_event_is_kept_and_counted(workspace: Workspace) -> None:
    dataset = workspace.load()
    assert "u3" in dataset.sequences.user_ids
    assert 2 not in dataset.split.test.users
    assert 2 not in dataset.split.valid.users
    assert "1 have one event" in str(dataset.report)
    assert "1 with one event" in str(dataset.report)


def test_events_are_ordered_by_time_and_ties_by_file(workspace: Workspace) -> None:
    workspace.write("interactions.csv", "user_id,item_id,timestamp\nu,c,20\nv,d,5\nu,b,10\nu,e,20\nu,d,10\n")
    dataset = workspace.load()
    assert dataset.sequences.user_ids == ("u", "v")
    assert dataset.catalogue.index(["b", "d", "c", "e", "d"]).tolist() == dataset.sequences.items.tolist()


def test_formats_agree(workspace: Workspace) -> None:
    expected = workspace.load()
    for name in ("interactions", "items"):
        frame = pl.read_csv(workspace.root / f"{name}.csv", schema_overrides={"item_id": pl.String})
        frame.write_parquet(workspace.root / f"{name}.parquet")
        frame.write_ndjson(workspace.root / f"{name}.jsonl")
        frame.write_csv(workspace.root / f"{name}.tsv", separator="\t")
    for suffix in ("parquet", "jsonl", "tsv"):
        dataset = workspace.load(interactions=f"interactions.{suffix}", items=f"items.{suffix}")
        assert dataset.catalogue == expected.catalogue
        assert dataset.sequences.items.tolist() == expected.sequences.items.tolist()
        assert np.array_equal(dataset.sequences.times, expected.sequences.times)


def test_column_names_can_be_mapped(workspace: Workspace) -> None:
    workspace.write("interactions.csv", "who,what,when\nu,1,10\nu,2,20\nu,3,30\n")
    workspace.write("items.csv", "what,item,text\n1,A,x\n2,B,y\n3,C,z\n")
    columns = Columns(user="who", item="what", time="when", title="item")
    dataset = workspace.load(columns=columns, template="{item}, {text}")
    assert dataset.catalogue.ids == ("1", "2", "3")
    assert dataset.catalogue.titles == ("A", "B", "C")
    assert dataset.catalogue.texts == ("A, x", "B, y", "C, z")


def test_an_absolute_path_ignores_the_root(workspace: Workspace, tmp_path: Path) -> None:
    config = workspace.config(
        root="/nowhere", interactions=str(tmp_path / "interactions.csv"), items=str(tmp_path / "items.csv")
    )
    assert len(load_dataset(config).catalogue) == 5


def test_order_instead_of_time(workspace: Workspace) -> None:
    workspace.write("interactions.csv", "user_id,item_id,timestamp\nu,c,2\nu,b,0\nu,d,1\n")
    dataset = workspace.load(timestamps="order")
    assert dataset.sequences.times is None
    assert dataset.catalogue.index(["b", "d", "c"]).tolist() == dataset.sequences.items.tolist()
    workspace.write("interactions.csv", "user_id,item_id\nu,c\nv,b\nu,b\nu,d\nu,d\n")
    dataset = workspace.load(timestamps="order")
    assert dataset.catalogue.index(["c", "b", "d", "d", "b"]).tolist() == dataset.sequences.items.tolist()
    assert "order of the file" in str(dataset.report)
    with pytest.raises(ValueError, match="global_time needs times"):
        workspace.load(timestamps="order", split=GlobalTime())


def test_positions_are_not_cut_by_time(workspace: Workspace) -> None:
    rows = "".join(f"u,{item},{place}\n" for place, item in enumerate("bcdeb"))
    workspace.write("interactions.csv", f"user_id,item_id,timestamp\n{rows}")
    assert "if that is a position, set data.timestamps: order" in str(workspace.load().report)
    with pytest.raises(InputError, match="cuts all users at one moment, which positions do not have"):
        workspace.load(split=GlobalTime())
    rows = "".join(f"u,{item},1950-01-0{1 + place}\n" for place, item in enumerate("bcdeb"))
    workspace.write("interactions.csv", f"user_id,item_id,timestamp\n{rows}")
    assert workspace.load(split=GlobalTime(valid_fraction=0.2, test_fraction=0.2)).sequences.times is not None


def test_ids_lose_outer_spaces_in_both_tables(workspace: Workspace) -> None:
    rows = "".join(f'" u","{item} ",{1_700_000_000 + place}\n' for place, item in enumerate("bcde"))
    workspace.write("interactions.csv", f"user_id,item_id,timestamp\n{rows}")
    dataset = workspace.load()
    assert dataset.sequences.user_ids == ("u",)
    assert dataset.catalogue.index(["b", "c", "d", "e"]).tolist() == dataset.sequences.items.tolist()


@pytest.mark.parametrize("factor", [1, 1000, 1_000_000])
def test_seconds_milliseconds_and_microseconds_agree(workspace: Workspace, factor: int) -> None:
    rows = "\n".join(f"u,{item},{(1_700_000_000 + place) * factor}" for place, item in enumerate("bcde"))
    workspace.write("interactions.csv", f"user_id,item_id,timestamp\n{rows}\n")
    dataset = workspace.load()
    assert dataset.sequences.times is not None
    assert dataset.sequences.times.tolist() == [1_700_000_000_000 + 1000 * place for place in range(4)]


HEADER = "user_id,item_id,timestamp\n"
BAD: list[tuple[str, dict[str, str | bytes | None], dict[str, Any], type[Exception], str]] = [
    (
        "missing file",
        {"items.csv": None},
        {},
        InputError,
        r"no such file: .*items\.csv \(data\.items: items\.csv, data\.root",
    ),
    (
        "missing user column",
        {"interactions.csv": "uid,item_id,timestamp\n1,b,3\n"},
        {},
        InputError,
        r"no column 'user_id' \(named by data\.columns\.user\).*Columns there: uid, item_id, timestamp",
    ),
    (
        "missing title",
        {"items.csv": "item_id,name\nb,B\n"},
        {"template": "{name}"},
        InputError,
        r"no column 'title' \(named by data\.columns\.title\)",
    ),
    (
        "missing time column",
        {"interactions.csv": "user_id,item_id\n1,b\n"},
        {},
        InputError,
        r"column 'timestamp' is missing; columns there: user_id, item_id\..*data\.timestamps: order",
    ),
    (
        "missing rating",
        {"interactions.csv": HEADER + "1,b,3\n"},
        {"cleaning": CleaningConfig(min_rating=3)},
        InputError,
        r"no column 'rating' \(named by data\.columns\.rating\)",
    ),
    ("empty table", {"interactions.csv": HEADER}, {}, InputError, r"interactions\.csv holds no rows"),
    ("empty file", {"items.csv": ""}, {}, InputError, r"items\.csv is empty"),
    (
        "no item has text",
        {"items.csv": "item_id,title\nb,\nc, \nd,<br>\n0012,&nbsp;\n"},
        {},
        InputError,
        r"items\.csv: no item has a text",
    ),
    (
        "no id matches",
        {"interactions.csv": HEADER + "1,12,3\n1,B,4\n"},
        {},
        InputError,
        r"none of its 2 items is in .*items\.csv; ids here: '12', 'B'; ids there: '0012', 'b', 'c'",
    ),
    (
        "time as text",
        {"interactions.csv": HEADER + "1,b,3\n1,c,last week\n"},
        {},
        InputError,
        r"column 'timestamp': data row 2 holds 'last week'",
    ),
    (
        "order as text",
        {"interactions.csv": HEADER + "1,b,first\n"},
        {"timestamps": "order"},
        InputError,
        r"data row 1 holds 'first'; data\.timestamps: order needs a number",
    ),
    (
        "no time at all",
        {"interactions.csv": HEADER + "1,b,\n1,c,\n"},
        {},
        InputError,
        r"'null times' took the last 2 interactions",
    ),
    (
        "no id at all",
        {"interactions.csv": HEADER + ",b,1\n,,2\n"},
        {},
        InputError,
        "null user or item ids' took the last 2",
    ),
    (
        "no item id at all",
        {"items.csv": "item_id,title\n,B\n,C\n"},
        {},
        InputError,
        r"items\.csv: the cleaning step 'null item ids' took the last 2 items",
    ),
    (
        "not utf-8",
        {"items.csv": b"item_id,title\nb,Caf\xe9\n"},
        {},
        InputError,
        r"items\.csv: byte 0xe9 at offset 19 \(line 2\) is not UTF-8",
    ),
    (
        "nan rating",
        {"interactions.csv": "user_id,item_id,timestamp,rating\n1,b,3,5\n1,c,4,NaN\n1,d,5,\n"},
        {"cleaning": CleaningConfig(min_rating=3)},
        InputError,
        r"column 'rating': data row 2 holds no rating \('NaN'\), and so do 1 more",
    ),
    (
        "text rating",
        {"interactions.csv": "user_id,item_id,timestamp,rating\n1,b,3,good\n"},
        {"cleaning": CleaningConfig(min_rating=3)},
        InputError,
        r"data row 1 holds 'good'; data\.cleaning\.min_rating needs",
    ),
    (
        "text rating that is kept",
        {"interactions.csv": "user_id,item_id,timestamp,rating\n1,b,3,good\n"},
        {"ratings": True},
        InputError,
        r"data row 1 holds 'good'; data\.ratings needs a number in every row",
    ),
    (
        "missing rating that is kept",
        {"interactions.csv": HEADER + "1,b,3\n"},
        {"ratings": True},
        InputError,
        r"no column 'rating' \(named by data\.columns\.rating\)",
    ),
    (
        "unknown template column",
        {},
        {"template": "{title}. {categorie}"},
        RecipeError,
        r"names the column 'categorie', which .*items\.csv lacks\. Did you mean 'category'\? Columns there: item_id",
    ),
    ("nobody has three events", {"interactions.csv": HEADER + "1,b,3\n2,c,4\n"}, {}, InputError, "leaves no test case"),
    ("all rated low", {}, {"cleaning": CleaningConfig(min_rating=6)}, InputError, r"'rating below 6' took the last 7"),
    (
        "no core",
        {},
        {"cleaning": CleaningConfig(min_user_events=9)},
        InputError,
        r"'core of 9 a user, 1 an item' took the",
    ),
]


@pytest.mark.parametrize(("files", "values", "error", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_clear_message(
    workspace: Workspace,
    files: dict[str, str | bytes | None],
    values: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    for name, content in files.items():
        if content is None:
            (workspace.root / name).unlink()
        else:
            workspace.write(name, content)
    with pytest.raises(error, match=message) as caught:
        workspace.load(**values)
    assert "\n" not in str(caught.value)


def test_ratings_follow_their_events(workspace: Workspace) -> None:
    # Not in order of time, under another name, and one event falls to cleaning.
    rows = "u,c,20,3\nv,d,5,1\nu,b,10,4.5\nu,e,15,0.5\nu,d,30,2\nv,c,9,5\nu,b,10,1\n"
    workspace.write("interactions.csv", f"user_id,item_id,timestamp,stars\n{rows}")
    columns = Columns(rating="stars")
    dataset = workspace.load(columns=columns, ratings=True, cleaning=CleaningConfig(min_rating=1))
    assert dataset.catalogue.index(["b", "c", "d", "d", "c"]).tolist() == dataset.sequences.items.tolist()
    assert dataset.sequences.ratings is not None
    assert dataset.sequences.ratings.tolist() == [4.5, 3.0, 2.0, 1.0, 5.0]
    assert dataset.sequences.ratings.dtype == np.float32
    starts, lengths = np.array([1, 3]), np.array([2, 1])
    gathered = dataset.sequences.gather_ratings(starts, lengths, 3)
    assert gathered is not None
    assert np.array_equal(gathered, [[np.nan, 3.0, 2.0], [np.nan, np.nan, 1.0]], equal_nan=True)
    # Read for cleaning alone they are not kept, and what is learned from is the same.
    without = workspace.load(columns=columns, cleaning=CleaningConfig(min_rating=1))
    assert without.sequences.ratings is None
    assert without.sequences.gather_ratings(starts, lengths, 3) is None
    assert without.sequences.items.tolist() == dataset.sequences.items.tolist()
    assert without.content_hash() != dataset.content_hash()


def test_a_nan_rating_is_no_matter_without_a_threshold(workspace: Workspace) -> None:
    workspace.write("interactions.csv", "user_id,item_id,timestamp,rating\n1,b,3,5\n1,c,4,NaN\n1,d,5,\n")
    assert len(workspace.load().sequences.items) == 3


def test_a_template_is_checked_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="takes a column name only"):
        TablesConfig(interactions="x.csv", items="y.csv", template="{title!r}")


def test_sources_are_sections_of_a_recipe() -> None:
    for kind, section in SOURCES.classes().items():
        assert section.kind == kind
        assert issubclass(section, DataConfig)


def test_section_from_yaml_values() -> None:
    values = {
        "interactions": "i.csv",
        "items": "t.csv",
        "columns": {"user": "who"},
        "cleaning": {"min_rating": 4},
        "split": {"kind": "global_time", "test_fraction": 0.2},
    }
    config = parse_section(TablesConfig, values)
    assert config == TablesConfig(
        interactions="i.csv",
        items="t.csv",
        columns=Columns(user="who"),
        cleaning=CleaningConfig(min_rating=4.0),
        split=GlobalTime(test_fraction=0.2),
    )


def test_public_names_resolve() -> None:
    for name in peftrec.data.__all__:
        assert getattr(peftrec.data, name) is not None
    assert set(peftrec.data.__all__) <= set(dir(peftrec.data))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        peftrec.data.nothing  # noqa: B018


def test_recipes_are_checked_without_torch_or_polars() -> None:
    code = (
        "import sys, peftrec.data.source, peftrec.data.batch, peftrec.data.download\n"
        "from peftrec.data import SOURCES, SPLITS, load_dataset; SOURCES.classes(); SPLITS.classes()\n"
        "assert 'polars' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("folder", "timestamps", "num_items", "num_users", "num_events"),
    [
        ("ml-100k", "time", 1682, 943, 100_000),
        ("amazon-beauty-2014", "order", 12_101, 22_363, 198_502),
        ("amazon-scientific-iisan", "order", 20_314, 12_076, 81_711),
    ],
)
def test_real_tables(
    shared_data: Path, folder: str, timestamps: Any, num_items: int, num_users: int, num_events: int
) -> None:
    dataset = load_dataset(
        TablesConfig(
            root=str(shared_data),
            interactions=f"{folder}/interactions.csv",
            items=f"{folder}/items.csv",
            timestamps=timestamps,
        )
    )
    assert len(dataset.catalogue) == num_items
    assert len(dataset.sequences) == num_users == len(dataset.split.test)
    assert len(dataset.sequences.items) == num_events
    assert TrainingWindows(dataset, 20).num_targets == num_events - 3 * num_users


def test_real_global_time(shared_data: Path) -> None:
    config = TablesConfig(
        root=str(shared_data),
        interactions="ml-100k/interactions.csv",
        items="ml-100k/items.csv",
        split=GlobalTime(),
    )
    split = load_dataset(config).split
    assert 79_900 <= split.train_lengths.sum() <= 80_000
    assert len(split.test) > 50
