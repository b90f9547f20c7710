"""Vectors of a table of items: equal to the run's, in shards, gone on with, and refused where they do not fit."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import peftrec
from peftrec import encoding
from peftrec.config import InputError, RecipeError
from peftrec.launch import Ranks
from peftrec.publishing import Run, load_run
from peftrec.run import train

NEW = [("new0", "small oak wine", "wine"), ("new1", "large <b>mint</b> tea", "tea"), ("empty", "", "")]


@pytest.fixture(scope="module")
def run(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    # Wide ids, so that a vector without the part of the id is far off.
    train(make_recipe("training.num_epochs=1", "encoder.inputs=text+ids", "encoder.id_std=0.5", output_dir=folder))
    return load_run(folder)


@pytest.fixture
def table(toy_data: Path, tmp_path: Path) -> Path:
    """The trained items, in another order, with new ones among them and one without text."""
    frame = pl.read_csv(toy_data / "items.csv")
    new = pl.DataFrame(NEW, schema=["item_id", "title", "category"], orient="row")
    frame = pl.concat([frame[20:], new, frame[:20]]).with_columns(price=pl.lit(1.5))
    frame.write_parquet(tmp_path / "items.parquet")
    return tmp_path / "items.parquet"


def vectors(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    frame = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
    return dict(zip(frame["item_id"], frame["vector"].to_numpy(), strict=True))


def test_known_items_are_the_runs_and_new_ones_their_text(run: Run, table: Path, tmp_path: Path) -> None:
    found = peftrec.encode_items(run, table, tmp_path / "out", shard_items=9)
    names = [f"vectors-{number:05d}-of-00005.parquet" for number in range(5)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["encoding.json", *names]
    rows = vectors(tmp_path / "out")
    order = [item for item in pl.read_parquet(table)["item_id"] if item != "empty"]
    assert list(rows) == order
    assert run.vectors_ND is not None
    assert run.model is not None
    for item, vector in zip(run.catalogue.ids, run.vectors_ND.numpy(), strict=True):
        np.testing.assert_array_equal(rows[item], vector)
    new = run.model.encode_new_items(["small oak wine. wine", "large mint tea. tea"])
    torch.testing.assert_close(torch.tensor(np.stack([rows["new0"], rows["new1"]])), new)
    assert (found["num_items"], found["num_without_text"], found["dim"]) == (42, 1, run.vectors_ND.shape[1])
    assert pl.read_parquet_schema(tmp_path / "out" / names[0])["vector"] == pl.Array(pl.Float32, found["dim"])


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_other_tables_give_the_same(form: str, run: Run, table: Path, tmp_path: Path) -> None:
    frame, path = pl.read_parquet(table), tmp_path / f"items.{form}"
    if form == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if form == "tsv" else ",")
    peftrec.encode_items(run, table, tmp_path / "one")
    peftrec.encode_items(run, path, tmp_path / "other", shard_items=10)
    one, other = vectors(tmp_path / "one"), vectors(tmp_path / "other")
    assert list(one) == list(other)
    np.testing.assert_allclose(np.stack(list(one.values())), np.stack(list(other.values())), atol=1e-5)


def test_text_vectors_and_ready_texts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    rows = [{"item_id": item, "text": text} for item, text in (("wine0", "small oak wine"), ("x", "mint tea"))]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = peftrec.encode_items(run, path, tmp_path / "out", what="text")
    assert run.model is not None
    encoder = run.model.text_encoder
    assert encoder is not None
    expected = encoder.encode(encoder.tokenize(["small oak wine", "mint tea"]))
    torch.testing.assert_close(torch.tensor(np.stack(list(vectors(tmp_path / "out").values()))), expected)
    assert (found["what"], found["dim"]) == ("text", encoder.dim)


def test_npy(run: Run, table: Path, tmp_path: Path) -> None:
    peftrec.encode_items(run, table, tmp_path / "shards")
    peftrec.encode_items(run, table, tmp_path / "out", form="npy", shard_items=9)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["encoding.json", "ids.npy", "vectors.npy"]
    array, ids = (np.load(tmp_path / "out" / f"{name}.npy", mmap_mode="r") for name in ("vectors", "ids"))
    expected = vectors(tmp_path / "shards")
    assert ids.tolist() == list(expected)
    np.testing.assert_allclose(array, np.stack(list(expected.values())), atol=1e-5)
    lines: list[str] = []
    peftrec.encode_items(run, table, tmp_path / "out", form="npy", shard_items=9, report=lines.append)
    assert lines == [f"{tmp_path / 'out'}: is complete already"]
    (tmp_path / "out" / "ids.npy").unlink()
    peftrec.encode_items(run, table, tmp_path / "out", form="npy", shard_items=9, report=lines.append)
    assert np.load(tmp_path / "out" / "ids.npy").tolist() == list(expected), "what was taken away is made again"


def test_a_stopped_run_goes_on_with_what_is_missing(
    run: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peftrec.encode_items(run, table, tmp_path / "whole", shard_items=9)
    plain, done = encoding._Job._vectors, 0

    def stops(*known: Any) -> Any:
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt
        return plain(*known)

    monkeypatch.setattr(encoding._Job, "_vectors", stops)
    with pytest.raises(KeyboardInterrupt):
        peftrec.encode_items(run, table, tmp_path / "out", shard_items=9)
    # What a kill leaves in the middle of a shard takes nobody's place.
    torn = tmp_path / "out" / "vectors-00002-of-00005.partial"
    torn.write_bytes(b"half")
    assert len(vectors(tmp_path / "out")) == 18
    lines: list[str] = []
    found = peftrec.encode_items(run, table, tmp_path / "out", shard_items=9, report=lines.append)
    assert done == 6, "three shards are left"
    assert lines[0] == f"{tmp_path / 'out'}: 2 of 5 shards are there already"
    assert found["num_items"] == 42
    assert not torn.exists()
    one, other = vectors(tmp_path / "whole"), vectors(tmp_path / "out")
    assert list(one) == list(other)
    assert all(np.array_equal(one[item], other[item]) for item in one)


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_torn_files_are_made_again(form: Any, run: Run, table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    peftrec.encode_items(run, table, folder, form=form, shard_items=9)
    torn = folder / ("vectors.npy" if form == "npy" else "vectors-00002-of-00005.parquet")
    whole = torn.read_bytes()
    for content in (b"", whole[:300]):
        torn.write_bytes(content)
        lines: list[str] = []
        peftrec.encode_items(run, table, folder, form=form, shard_items=9, report=lines.append)
        assert "is complete already" not in lines[0]
        assert torn.read_bytes() == whole


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_a_full_disk_is_said_by_name_and_what_is_whole_stays(
    form: Any, run: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.fsync
    written = 0

    def full(file: int) -> None:
        nonlocal written
        written += 1
        if written == (6 if form == "npy" else 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(file)

    monkeypatch.setattr(os, "fsync", full)
    name = "vectors.npy" if form == "npy" else "vectors-00002-of-00005.parquet"
    with pytest.raises(InputError, match=rf"{name}: cannot be written \(No space left on device\)"):
        peftrec.encode_items(run, table, tmp_path / "out", form=form, shard_items=9)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == (5 if form == "npy" else 2)
    assert not list((tmp_path / "out").glob("*.partial"))


def test_another_run_table_or_setting_is_refused_by_name(
    run: Run, table: Path, tmp_path: Path, make_recipe: Callable[..., Any]
) -> None:
    peftrec.encode_items(run, table, tmp_path / "out")
    with pytest.raises(InputError, match="was begun with shard_items=50000, not 9"):
        peftrec.encode_items(run, table, tmp_path / "out", shard_items=9)
    with pytest.raises(InputError, match="was begun with what=item, not text"):
        peftrec.encode_items(run, table, tmp_path / "out", what="text")
    train(make_recipe("training.num_epochs=1", output_dir=tmp_path / "again"))
    with pytest.raises(InputError, match=rf"holds vectors of another run \({run.folder}, sha256 \w+, not"):
        peftrec.encode_items(tmp_path / "again", table, tmp_path / "out")
    pl.read_parquet(table)[:5].write_parquet(table)
    with pytest.raises(InputError, match=rf"holds vectors of another table \({table}"):
        peftrec.encode_items(run, table, tmp_path / "out")
    (tmp_path / "out" / "encoding.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"encoding\.json: is damaged"):
        peftrec.encode_items(run, table, tmp_path / "out")


def test_tables_that_cannot_be_encoded(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    for content, kind, message in (
        ("item_id,title\na,x\n", RecipeError, r"names the column 'category', which .* \(which has no ready column 'te"),
        ("item,text\na,x\n", InputError, r"no column 'item_id' \(data\.columns\.item of the run\)"),
        ("item_id,text\na,x\n ,y\n", InputError, "data row 2 has no item_id"),
        ("item_id,text\na,x\nb,y\na,z\n", InputError, "the id 'a' stands in more than one row"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(kind, match=message):
            peftrec.encode_items(run, path, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    path.write_text("item_id,text\na,x\n", encoding="utf-8")
    with pytest.raises(InputError, match="shard_items is 0"):
        peftrec.encode_items(run, path, tmp_path / "out", shard_items=0)
    with pytest.raises(InputError, match="holds files that are no encoded items"):
        peftrec.encode_items(run, path, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        peftrec.encode_items(run, path, path)


def test_runs_without_a_language_model_are_refused(
    table: Path, tmp_path: Path, make_recipe: Callable[..., Any]
) -> None:
    train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "run"))
    with pytest.raises(InputError, match="is a baseline or an ensemble"):
        peftrec.encode_items(tmp_path / "run", table, tmp_path / "out")


class OneOfTwo(Ranks):
    """One of two processes; the other has no trouble, and writes elsewhere."""

    def __init__(self, index: int) -> None:
        super().__init__(index, 2)

    def total(self, values: Any) -> list[float]:
        return list(values)

    def same(self, values: Any) -> list[float]:
        return list(values)


def test_processes_that_write_into_different_folders_are_told(run: Run, table: Path, tmp_path: Path) -> None:
    """Two real processes write into one in tests/launch/test_shards.py."""
    with pytest.raises(InputError, match=r"out: is not seen here; all processes must write into one folder"):
        peftrec.encode_items(run, table, tmp_path / "out", shard_items=9, ranks=OneOfTwo(1))
    with pytest.raises(InputError, match=r"vectors-00001-of-00005\.parquet: was encoded, but is not there"):
        peftrec.encode_items(run, table, tmp_path / "out", shard_items=9, ranks=OneOfTwo(0))
    assert "num_items" not in json.loads((tmp_path / "out" / "encoding.json").read_text(encoding="utf-8"))
    pl.read_parquet(table)[:5].write_parquet(table)
    with pytest.raises(InputError, match="holds vectors of another table"):
        peftrec.encode_items(run, table, tmp_path / "out", shard_items=9, ranks=OneOfTwo(1))


def test_numbers_are_written_as_the_whole_column_would_be(tmp_path: Path) -> None:
    from peftrec.data.table_part import TableParts

    path = tmp_path / "items.parquet"
    pl.DataFrame({"whole": [1.0, None, 3.0], "part": [1.0, 2.0, 2.5]}).write_parquet(path)
    table = TableParts(path)
    first = table.part(0, 2)
    assert table.text(first, "whole").to_list() == ["1", None]
    assert table.text(first, "part").to_list() == ["1.0", "2.0"]
