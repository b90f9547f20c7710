"""Two processes find and write what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from peftrec import recommending
from peftrec.cli import main
from peftrec.launch import Ranks
from peftrec.run import train

STOPPED = "1 of 2 processes failed and say why; this one stops with them"
PROBE = Path(__file__).with_name("shard_probe.py")
pytestmark = pytest.mark.slow  # two processes are launched


@pytest.fixture(scope="module")
def run(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(make_recipe("training.num_epochs=1", output_dir=folder))
    return folder


@pytest.fixture(scope="module")
def job(run: Path, toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Tables to encode and to make lists for, and commands to be run by both processes."""
    folder = tmp_path_factory.mktemp("two")
    every = pl.read_csv(toy_data / "items.csv")["item_id"].to_list()
    users = [["wine0", "wine1"], [], ["tea3"], every, ["bread1"]]
    rows = [{"user_id": f"u{number}", "history": history} for number, history in enumerate(users)]
    wrong = [*rows[:2], {"user_id": "u2", "history": ["wien0"]}, *rows[3:]]
    for name, table in (("users.jsonl", rows), ("bad_users.jsonl", wrong)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    own, items = shutil.copytree(run, folder / "run"), str(toy_data / "items.csv")
    lists = ["--histories", str(folder / "users.jsonl"), "--output", str(folder / "cli.jsonl")]
    return {
        "run": str(run),
        "folder": str(folder),
        "items": items,
        "users": str(folder / "users.jsonl"),
        "bad_users": str(folder / "bad_users.jsonl"),
        "commands": [
            ["evaluate", str(own), "--json"],
            ["encode", str(own), items, str(folder / "cli"), "--shard-items", "15"],
            ["recommend", str(own), *lists, "--k", "3"],
        ],
    }


@pytest.fixture(scope="module")
def launched(job: dict[str, Any]) -> str:
    """What two processes printed."""
    folder = Path(job["folder"])
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*words, str(PROBE), str(folder / "job.json")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def two(launched: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """What each of two processes found."""
    assert launched
    return [dict(np.load(Path(job["folder"]) / f"rank{rank}.npz")) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one process alone writes."""
    return tmp_path_factory.mktemp("one")


@pytest.fixture(scope="module")
def one(job: dict[str, Any], alone: Path, load_script: Callable[[Path], Any]) -> dict[str, Any]:
    """What one process alone finds."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(recommending, "_USERS_A_PART", 2)  # put back afterwards
    found: dict[str, Any] = load_script(PROBE).everything(job, alone, Ranks())
    monkeypatch.undo()
    return found


def told(found: dict[str, Any], name: str) -> Any:
    return json.loads(str(found[name]))


def test_both_processes_have_the_whole_evaluation_of_one(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    keys = [key for key in one if key.startswith(("products.", "rows."))]
    assert len({key.rpartition(".")[0] for key in keys}) == 8
    for key in keys:
        for found in two:
            np.testing.assert_array_equal(found[key], one[key], err_msg=key)
    assert len(one["rows.whole.ranks"]) == 60
    assert len(one["rows.one.whole.ranks"]) == 1, "one of two processes has no case"


def test_both_processes_have_the_vectors_of_one(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    for name in ("vectors.lora", "vectors.side"):
        np.testing.assert_array_equal(two[0][name], two[1][name])
        np.testing.assert_allclose(two[0][name], one[name], rtol=0, atol=1e-6 * np.abs(one[name]).max())


def test_where_one_process_finds_nan_both_stop_and_it_names_the_user(two: list[dict[str, Any]]) -> None:
    first, second = (str(found["nan"]) for found in two)
    assert first == STOPPED
    assert "scores are NaN or infinite, first for user 'u" in second


@pytest.mark.parametrize("name", ["npy/vectors.npy", "npy/ids.npy", "npy/encoding.json", "shards/encoding.json"])
def test_items_are_encoded_as_by_one(
    name: str, one: dict[str, Any], two: list[dict[str, Any]], alone: Path, job: dict[str, Any]
) -> None:
    own, whole = Path(job["folder"]) / name, alone / name
    assert own.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in own.parent.iterdir()) == sorted(path.name for path in whole.parent.iterdir())


def test_shards_are_those_of_one_and_gone_on_with(
    one: dict[str, Any], two: list[dict[str, Any]], alone: Path, job: dict[str, Any]
) -> None:
    names = [f"vectors-{number:05d}-of-00005.parquet" for number in range(5)]
    assert [told(found, "encode.refused") for found in two] == [STOPPED, "shard 4 cannot be written"]
    assert told(one, "encode.there") == names[:3]
    for found in two:
        assert told(found, "encode.there") == names[:3], "the turn in which one failed is ended, and none is begun"
        assert told(found, "encode.counts") == told(one, "encode.counts")
        assert told(found, "encode.same")
    first, second = (told(found, "encode.told") for found in two)
    folder = Path(job["folder"]) / "shards"
    assert (first[0], first[-1]) == (f"{folder}: 3 of 5 shards are there already", f"{folder}: is complete already")
    assert [line.partition(":")[0] for line in (first[1], *second)] == ["shard 4 of 5", "shard 5 of 5"]
    for name in names:
        assert (folder / name).read_bytes() == (alone / "shards" / name).read_bytes()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_lists_are_those_of_one(
    suffix: str, one: dict[str, Any], two: list[dict[str, Any]], alone: Path, job: dict[str, Any]
) -> None:
    own, whole = Path(job["folder"]) / f"lists.{suffix}", alone / f"lists.{suffix}"
    assert own.read_bytes() == whole.read_bytes()
    counts = {"users": 5, "rows": 38 + 40 + 39 + 0 + 39, "without_history": 1}
    assert [told(found, f"recommend.{suffix}") for found in (one, *two)] == [counts] * 3
    frame = pl.read_parquet(own) if suffix == "parquet" else pl.read_ndjson(own)
    assert frame["user_id"].unique(maintain_order=True).to_list() == ["u0", "u1", "u2", "u4"]
    said = [[line.rpartition(",")[0] for line in told(found, "recommend.told")] for found in two]
    assert said == [["4 of 5 users", "5 of 5 users"] * 2, []]


def test_where_a_row_is_wrong_no_process_leaves_anything(
    one: dict[str, Any], two: list[dict[str, Any]], job: dict[str, Any]
) -> None:
    first, second = (told(found, "recommend.refused") for found in two)
    assert first == STOPPED
    assert second == told(one, "recommend.refused")
    assert f"{job['bad_users']}: data row 3: no item has the id 'wien0'" in second
    assert not list(Path(job["folder"]).glob("bad.jsonl*"))


def test_commands_are_shared_and_print_once(
    launched: str, one: dict[str, Any], alone: Path, job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(job["folder"])
    printed, _, rest = launched.rpartition("\n}\n")
    results = json.loads(printed + "\n}")
    assert [line.replace(f"{folder}/", "") for line in rest.splitlines()] == [
        "cli: 40 vectors of 32 numbers",
        "cli.jsonl: 12 entries for 5 users",
        "1 users without history get the items with the most training events, unless their attributes are known",
    ]
    own = shutil.copytree(job["run"], alone / "run")
    capsys.readouterr()
    assert main(["evaluate", str(own), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    written = [name.replace(str(own), str(folder / "run")) for name in expected.pop("written")]
    assert results.pop("written") == written
    assert results == expected
    for path in sorted((own / "private").glob("test_*.parquet")):
        assert (folder / "run" / "private" / path.name).read_bytes() == path.read_bytes()
    assert len(pl.read_parquet(folder / "cli" / "*.parquet")) == 40
