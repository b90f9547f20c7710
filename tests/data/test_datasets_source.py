"""Tables through the library `datasets`: folders of files, `save_to_disk`, streaming, a Hub out of reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import SOURCES, Columns, Dataset, load_dataset
from peftrec.data.sources.datasets import DatasetsConfig, DatasetTable

datasets = pytest.importorskip("datasets")

INTERACTIONS = pl.DataFrame(
    {
        "user_id": ["u", "u", "u", "v", "v"],
        "item_id": ["007", "b", "c", "007", "c"],
        "timestamp": [1_400_000_100, 1_400_000_000, 1_400_000_200, 1_400_000_300, 1_400_000_400],
        "note": ["long " * 100] * 5,
    }
)
ITEMS = pl.DataFrame(
    {"item_id": ["007", "b", "c"], "title": ["Tea", "تفاحة 🍏", "Tea"], "tags": [["hot", "dark"], [], None]}
)
USERS = pl.DataFrame({"user_id": ["v"], "age": [30]})
TEXTS = ("Tea (hot, dark)", "تفاحة 🍏", "Tea")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    INTERACTIONS.write_parquet(folder / "inter.parquet")
    ITEMS.write_ndjson(folder / "items.jsonl")
    USERS.write_csv(folder / "users.csv")
    return tmp_path


def load(root: Path, **values: Any) -> Dataset:
    given = {"root": str(root), "template": "{title} ({tags})", **values}
    return load_dataset(DatasetsConfig(**given))


def check(dataset: Dataset) -> None:
    assert dataset.catalogue.ids == ("007", "b", "c")
    assert dataset.catalogue.texts == TEXTS
    assert dataset.sequences.user_ids == ("u", "v")
    assert dataset.sequences.items.tolist() == [1, 0, 2, 0, 2]
    assert dataset.sequences.times is not None
    assert dataset.sequences.times[0] == 1_400_000_000_000


def table(data_files: str | tuple[str, ...] | None = None, **values: Any) -> DatasetTable:
    return DatasetTable(data_files=data_files, **values)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_files(files: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.data.sources.datasets._BATCH_ROWS", 2)
    dataset = load(
        files, path="files", streaming=streaming, interactions=table("inter.parquet"), items=table("items*.jsonl"),
        users=table(("users.csv",)), user_template="{age} years",
    )  # fmt: skip
    check(dataset)
    assert dataset.user_texts == ("", "30 years")


@pytest.mark.parametrize("streaming", [False, True])
def test_only_columns_that_are_needed_are_kept(files: Path, streaming: bool) -> None:
    config = DatasetsConfig(
        root=str(files), path="files", streaming=streaming, interactions=table("inter.parquet"),
        items=table("items.jsonl"),
    )  # fmt: skip
    raw = config.read()
    assert raw.interactions.frame.columns == ["user_id", "item_id", "timestamp"]
    assert raw.interactions.column_names == ("user_id", "item_id", "timestamp", "note")
    assert raw.interactions.name == "files (train)"
    assert raw.items.frame.columns == ["item_id", "title"]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_save_to_disk_wrote(tmp_path: Path, streaming: bool) -> None:
    datasets.Dataset.from_dict(INTERACTIONS.to_dict(as_series=False)).save_to_disk(tmp_path / "events")
    items = datasets.Dataset.from_dict(ITEMS.to_dict(as_series=False))
    datasets.DatasetDict({"old": items.select([0]), "new": items}).save_to_disk(tmp_path / "items")
    given = {"path": "items", "streaming": streaming}
    check(load(tmp_path, interactions=table(path="events"), items=table(split="new"), **given))
    with pytest.raises(InputError, match=r"data\.items\.split: items has several splits; choose one of: old, new"):
        load(tmp_path, interactions=table(path="events"), items=table(), **given)
    with pytest.raises(InputError, match=r"data\.items\.split: items has no split 'mew'\. Did you mean 'new'\?"):
        load(tmp_path, interactions=table(path="events"), items=table(split="mew"), **given)
    with pytest.raises(InputError, match=r"data\.interactions\.split: events holds one table without the split 'x'"):
        load(tmp_path, interactions=table(path="events", split="x"), items=table(split="new"), **given)
    with pytest.raises(
        InputError, match=r"written by save_to_disk, which has splits only: unset config and data_files"
    ):
        load(tmp_path, interactions=table(path="events", config="x"), items=table(split="new"), **given)


def test_configurations_of_a_folder(files: Path) -> None:
    ITEMS.write_parquet(files / "files" / "items.parquet")
    (files / "files" / "README.md").write_text(
        "---\nconfigs:\n- config_name: events\n  data_files: inter.parquet\n"
        "- config_name: things\n  data_files:\n  - split: every\n    path: items.parquet\n---\n"
    )
    check(load(files, path="files", interactions=table(config="events"), items=table(config="things", split="every")))
    with pytest.raises(
        InputError, match=r"data\.interactions: files cannot be read: .*'event' not found.*'events', 'th"
    ):
        load(files, path="files", interactions=table(config="event"), items=table(config="things"))
    with pytest.raises(InputError, match=r"data\.interactions: files .* available configs: \['events', 'things'\]"):
        load(files, path="files", interactions=table(), items=table(config="things"))
    with pytest.raises(InputError, match=r"data\.items\.split: files has no split 'test'\. Splits there: every"):
        load(files, path="files", interactions=table(config="events"), items=table(config="things", split="test"))


def test_class_labels_are_read_as_names(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["drinks", "food"])
    features = datasets.Features({"item_id": datasets.Value("int32"), "title": datasets.Value("string"), "kind": names})
    values = {"item_id": [1, 2, 3], "title": ["a", "b", "c"], "kind": [1, 0, -1]}
    datasets.Dataset.from_dict(values, features=features).save_to_disk(tmp_path / "items")
    events = {"user_id": ["u"] * 3, "item_id": [1.0, 2.0, 3.0], "timestamp": [1, 2, 3]}
    datasets.Dataset.from_dict(events).save_to_disk(tmp_path / "events")
    dataset = load(tmp_path, template="{title}: {kind}", interactions=table(path="events"), items=table(path="items"))
    assert dataset.catalogue.texts == ("a: food", "b: drinks", "c")
    assert dataset.sequences.items.tolist() == [0, 1, 2]


@pytest.mark.parametrize("streaming", [False, True])
def test_mixed_types_in_one_column(files: Path, streaming: bool) -> None:
    rows = [
        {"user_id": 1, "item_id": "b", "timestamp": 1_400_000_000},
        {"user_id": "u\"1'", "item_id": "c", "timestamp": 1_400_000_000},
        {"user_id": None, "item_id": "c", "timestamp": 1_400_000_000},
        *({"user_id": 1, "item_id": item, "timestamp": 1_400_000_001} for item in ("c", "007")),
    ]
    (files / "files" / "mixed.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    given = {
        "path": "files",
        "streaming": streaming,
        "interactions": table("mixed.jsonl"),
        "items": table("items.jsonl"),
    }
    dataset = load(files, **given)
    assert dataset.sequences.user_ids == ("1", "u\"1'")
    assert dataset.report.removed("null user or item ids") == 1
    notes = {(row.subject, row.note) for row in dataset.report.rows if row.step == "mixed types"}
    assert notes == {("interactions", "column 'user_id': 3 of 4 values are no text (1) and are read as text")}


def test_types_that_are_guessed_batch_by_batch(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peftrec.data.sources import datasets as source

    parts = [pl.DataFrame({"id": [1, 2], "n": [None, None]}), pl.DataFrame({"id": ["x", None], "n": [1, 2]}),
             pl.DataFrame({"id": [3.0], "n": [None]})]  # fmt: skip
    monkeypatch.setattr(source, "_batches", lambda _: ((part, {}) for part in parts))
    frame, notes = source._frame(datasets.Dataset.from_dict({}), ["id", "n"], "t")
    assert frame is not None
    assert notes == ("column 'id': 3 of 4 values are no text (1, 2, 3) and are read as text",)
    assert frame.to_dict(as_series=False) == {"id": ["1", "2", "x", None, "3"], "n": [None, None, 1, 2, None]}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interactions": table("no.csv")}, r"data\.interactions: files cannot be read: Unable to find '.*no\.csv'$"),
        (
            {"interactions": table(("good.jsonl", "bad.jsonl"))},
            r"interactions: files cannot be read: /.*/bad\.jsonl: line 372 is no JSON object: '\{\"user_id\":'; every",
        ),
        (
            {"interactions": table("*.jsonl.gz")},
            r"interactions: files cannot be read: /.*/half\.jsonl\.gz is not a whole gzip file: .* in line \d+; fetch",
        ),
        (
            {"interactions": table("ragged.csv")},
            r"cannot be read: /.*/ragged\.csv: .* Expected 2 fields in line 3, saw 3; every line needs as many fields",
        ),
        ({"interactions": table("latin.csv")}, r"/latin\.csv: byte 0xe9 at offset 20 \(line 2\) is not UTF-8; convert"),
        ({"interactions": table("cut.parquet")}, r"/cut\.parquet cannot be read: .*; fetch it again$"),
        ({"interactions": table("list.json")}, r"/list\.json is no JSON: .*line 2 column 13 .*; mend it, or fetch it"),
        ({"interactions": table("none.csv")}, r"files.* (\(train\) holds no rows|corresponds to no data)"),
        (
            {"items": table("items.jsonl", config="x")},
            r"data\.items: files cannot be read: .*'x' not found\. Available:",
        ),
        (
            {"items": table("items.jsonl", split="test")},
            r"data\.items\.split: files has no split 'test'\. Spl.* train$",
        ),
        ({"path": "empty"}, r"data\.interactions: empty cannot be read: .*empty"),
        ({"path": "./nowhere"}, r"data\.interactions: no such folder: .*nowhere, and '\./nowhere' is no Hub id"),
        ({"columns": Columns(user="usr")}, r"files \(train\): no column 'usr' \(named by data\.columns\.user\)\. Did"),
        ({"template": "{titel}"}, r"data\.template '\{titel\}' names the column 'titel', which files \(train\) lacks"),
    ],
)
def test_bad_input(files: Path, streaming: bool, values: dict[str, Any], message: str) -> None:
    import gzip

    (files / "empty").mkdir()
    (files / "files" / "good.jsonl").write_text('{"user_id": 1}\n')
    (files / "files" / "bad.jsonl").write_text('{"user_id": 1}\n' * 371 + '{"user_id":\n')
    (files / "files" / "ragged.csv").write_text("user_id,item_id\n1,2\n1,2,3\n")
    (files / "files" / "latin.csv").write_bytes(b"user_id,item_id\n1,ca\xe9\n")
    (files / "files" / "cut.parquet").write_bytes((files / "files" / "inter.parquet").read_bytes()[:-20])
    (files / "files" / "list.json").write_text('[{"user_id": 1},\n {"user_id":}]')
    (files / "files" / "none.csv").write_text("user_id,item_id\n")
    half = gzip.compress(b'{"user_id": 1}\n' * 1000)
    (files / "files" / "half.jsonl.gz").write_bytes(half[: len(half) // 2])
    (files / "files" / "good.jsonl.gz").write_bytes(half)
    given = {"path": "files", "interactions": table("inter.parquet"), "items": table("items.jsonl"), **values}
    with pytest.raises((InputError, RecipeError), match=message) as caught:
        load(files, streaming=streaming, **given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_half_written_file_of_save_to_disk(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"user_id": list(range(1000))}).save_to_disk(tmp_path / "events")
    path = next((tmp_path / "events").glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(
        InputError, match=rf"data\.interactions: events cannot be read: {path} cannot be read: .*; fetch"
    ):
        load(tmp_path, interactions=table(path="events"), items=table(path="events"))


@pytest.mark.parametrize("streaming", [False, True])
def test_files_are_listed_where_none_is_broken(files: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.data.sources.datasets._frame", lambda *_: int("odd"))
    with pytest.raises(InputError, match=r"files cannot be read: invalid literal .*'odd'; files read: items\.jsonl$"):
        load(files, path="files", streaming=streaming, interactions=table("items*"), items=table("items.jsonl"))


def test_the_hub_gives_something_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise datasets.exceptions.DatasetGenerationError("while generating") from ValueError("JSON error in row 371")

    monkeypatch.setattr(datasets, "load_dataset", broken)
    with pytest.raises(
        InputError,
        match=r"interactions: org/name \(config 'x', data_files \['a\.jsonl', 'b'\]\) cannot be read: JSON error$",
    ):
        load(tmp_path, path="org/name", interactions=table(("a.jsonl", "b"), config="x"), items=table())


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_that_cannot_be_reached(tmp_path: Path, streaming: bool) -> None:
    message = (
        r"data\.interactions: the Hub gives no data set 'org/name': Couldn't reach 'org/name' on the Hub \(.*\)\. "
        r"Check id, revision and connection \(and HF_HUB_OFFLINE\), or name a folder; .*org/name is none"
    )
    with pytest.raises(InputError, match=message):
        load(tmp_path, path="org/name", revision="v1", streaming=streaming, interactions=table(), items=table())


def test_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.data.sources.datasets.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs the library datasets: pip install 'peftrec\[datasets\]'"):
        load(tmp_path, path="x", interactions=table(), items=table())


def test_sections() -> None:
    values: dict[str, Any] = {"kind": "datasets", "path": "a/b", "interactions": {"config": "x"}, "items": {}}
    config = parse_section(DatasetsConfig, values, registry=SOURCES)
    assert config.interactions == DatasetTable(config="x")
    files = {"interactions": {"data_files": ["a", "b"]}, "items": {"data_files": "c"}}
    config = parse_section(DatasetsConfig, {**values, **files}, registry=SOURCES)
    assert (config.interactions.data_files, config.items.data_files) == (("a", "b"), "c")
    lacking = {**values, "path": None, "interactions": {"path": "a"}}
    with pytest.raises(
        RecipeError, match=r"^data\.items\.path: missing; name a Hub id or a folder there, or in data\."
    ):
        parse_section(DatasetsConfig, lacking, path="data", registry=SOURCES)
    for extra in ({"users": {}}, {"user_template": "{age}"}):
        with pytest.raises(RecipeError, match=r"users: goes with user_template"):
            parse_section(DatasetsConfig, {**values, **extra}, registry=SOURCES)


def test_the_shared_copy(shared_data: Path) -> None:
    pytest.importorskip("datasets")
    dataset = load(
        shared_data,
        path="ml-100k",
        template="{title}",
        interactions=table("interactions.csv"),
        items=table("items.csv"),
    )
    assert (len(dataset.catalogue), len(dataset.sequences), len(dataset.sequences.items)) == (1682, 943, 100_000)
