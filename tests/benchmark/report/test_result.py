"""What is in a folder of results: what counts, what is refused with which words, and what only tells of a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peftrec.benchmark.report.result import LeftOut, read_results
from peftrec.benchmark.report.row import make_tables
from peftrec.config import InputError

Make = Callable[..., Path]


@pytest.fixture
def good(make_result: Make) -> Make:
    """Two runs that stay, whatever is beside them."""
    make_result("full", [1, 1, 3, 3], name="full")
    make_result("lora", [1, 3, 3, 0], name="lora")
    return make_result


def left_out(folder: Path) -> list[LeftOut]:
    """What is in no table, once the two good runs are seen to be in one."""
    results = read_results(folder)
    tables, strangers = make_tables(results)
    assert [row.method for row in tables[0].rows][:2] == ["full", "lora"]
    assert all(entry.name not in ("full.json", "lora.json") for entry in (*results.left_out, *strangers))
    return [*results.left_out, *strangers]


def edit(path: Path, **changes: Any) -> None:
    """Change keys of the outermost level; None takes one away."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"row": "ids"}', "is no result of a benchmark (it has no schema_version)"),
        ("[1, 2]", "is no result of a benchmark (it has no schema_version)"),
        ('{"schema_version": 1, "run"', "cannot be read as JSON"),
        ('{"schema_version": 1, "status": NaN}', "NaN is no number of JSON"),
        ('{"schema_version": 1, "run": {}, "status": {"state": "gone"}}', "is no result of a benchmark: status"),
        ('{"schema_version": 2, "run": {}, "status": {}}', "has schema_version 2, 1 is what is read"),
    ],
)
def test_foreign_and_broken_json(good: Make, results: Path, text: str, words: str) -> None:
    (results / "other.json").write_text(text, encoding="utf-8")
    (entry,) = left_out(results)
    assert entry.name == "other.json"
    assert words in entry.reason
    assert entry.refused


def test_parts_of_another_form(good: Make, results: Path) -> None:
    """Each would else be met where it is drawn or told, and end the whole report."""
    part = {"kind": "target", "name": "cold", "num_cases": 2, "num_users": 2, "metrics": {}, "intervals": {}}
    block = json.loads(good("full", [1, 1, 1, 1], name="full").read_text(encoding="utf-8"))["test"]
    training = {"best_epoch": 1, "num_steps": 1, "train_seconds": 1.0}
    broken: dict[str, dict[str, Any]] = {
        "slices.0.intervals.ndcg@10": {"slices": [part | {"intervals": {"ndcg@10": [0.1]}}]},
        "slices.0.metrics": {"slices": [part | {"metrics": None}]},
        "training.epochs.0.ndcg@10": {"training": training | {"epochs": [{"ndcg@10": "high"}]}},
        "test.protocol.num_items": {"test": block | {"protocol": block["protocol"] | {"num_items": "all"}}},
    }
    for number, changes in enumerate(broken.values()):
        edit(good("side", [1, 1, 1, 1], name=f"side{number}"), **changes)
    told = {entry.name: entry.reason for entry in left_out(results)}
    for number, place in enumerate(broken):
        assert f"is no result of a benchmark: {place}: " in told.pop(f"side{number}.json")


def test_a_result_without_its_metric_or_under_another_name(good: Make, results: Path) -> None:
    path = good("side", [1, 1, 1, 1], name="side")
    test = json.loads(path.read_text(encoding="utf-8"))["test"]
    edit(path, test=test | {"metrics": {"hr@10": 1.0}})
    good("ia3", [1, 1, 1, 1], name="ia3").rename(results / "moved.json")
    edit(good("prefix", [1, 1, 1, 1], name="prefix"), recipe={"training": {"metric": "mrr@20"}})
    named = {entry.name: entry.reason for entry in left_out(results)}
    assert named["side.json"] == "test.metrics has no ndcg@10; evaluation.ks must have 10 in it"
    assert named["prefix.json"] == "valid.metrics has no mrr@20, which recipe.training.metric names"
    assert named["moved.json"] == "calls itself 'ia3'; a file has the name of its run"


def test_two_that_claim_one_run_are_both_refused(good: Make, results: Path) -> None:
    """1 and 1.0 are the same value, and the stage makes no other run."""
    good("side", [1, 1, 1, 1], name="one", values={"optimizer.learning_rate": 1})
    good("side", [3, 3, 3, 3], name="two", values={"optimizer.learning_rate": 1.0}, stage="seed")
    good("side", [7, 7, 7, 7], name="three", values={"optimizer.learning_rate": 0.5})
    entries = left_out(results)
    assert [entry.name for entry in entries] == ["one.json", "two.json"]
    assert "claims the same run as two.json" in entries[0].reason
    assert all(entry.refused for entry in entries)


def other_ranks(path: Path) -> None:
    pl.DataFrame(
        {"user": [0, 1, 2, 3], "rank": [1, 1, 1, 9]}, schema={"user": pl.UInt32, "rank": pl.UInt32}
    ).write_parquet(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, "side.parquet: is missing"),
        (lambda path: path.write_bytes(b"PAR1 no more"), "side.parquet"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "side.parquet"),
        (other_ranks, "its ranks give ndcg@10 0.825257, the JSON says 0.500000; it is of another run"),
        (lambda path: pl.DataFrame({"user": [0]}).write_parquet(path), "side.parquet"),
    ],
    ids=["missing", "foreign", "cut", "other", "no ranks"],
)
def test_ranks_that_are_missing_damaged_or_of_another_run(
    good: Make, results: Path, spoil: Callable[[Path], Any], words: str
) -> None:
    good("side", [3, 3, 3, 3], name="side")
    spoil(results / "side.parquet")
    (entry,) = left_out(results)
    assert entry.name == "side.json"
    assert entry.refused
    assert words in entry.reason
    assert str(results) not in entry.reason


def test_cases_must_lie_beside_the_json(good: Make, results: Path) -> None:
    path = good("side", [3, 3, 3, 3], name="side")
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    edit(path, cases=cases | {"file": "../side.parquet"})
    (entry,) = left_out(results)
    assert "'../side.parquet' must be the name of a file beside the JSON" in entry.reason


def test_other_users_under_the_same_digest(good: Make, results: Path) -> None:
    path = good("side", [3, 3, 3, 3], users=[4, 5, 6, 7], name="side")
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    digest = json.loads((results / "full.json").read_text(encoding="utf-8"))["cases"]["sha256"]
    edit(path, cases=cases | {"sha256": digest})
    (entry,) = left_out(results)
    assert "its users are not those of other files with the same cases.sha256" in entry.reason


@pytest.mark.parametrize(
    ("state", "told"), [("failed", "failed"), ("killed", "killed"), ("out_of_memory", "out of memory")]
)
def test_runs_that_failed_are_told_and_not_refused(good: Make, results: Path, state: str, told: str) -> None:
    path = good("lora", [1, 1, 1, 1], name="lora_other", values={"optimizer.learning_rate": 0.1})
    content = json.loads(path.read_text(encoding="utf-8"))
    status = {"state": state, "seconds": 31.4, "reason": "Traceback\nRuntimeError: no"}
    path.write_text(json.dumps({"schema_version": 1, "run": content["run"], "status": status}), encoding="utf-8")
    (entry,) = left_out(results)
    assert (entry.reason, entry.refused) == (f"{told} after 31 s: RuntimeError: no", False)
    # It took its part of the tuning budget.
    tables, _ = make_tables(read_results(results))
    assert [row.num_trials for row in tables[0].rows] == [1, 2]


def test_a_seed_with_other_values_or_cases_belongs_to_no_row(good: Make, results: Path) -> None:
    good("lora", [1, 1, 1, 1], name="lora_1", seed=1, stage="seed")
    good("lora", [1, 1, 1, 1], name="lora_2", seed=2, stage="seed", values={"optimizer.learning_rate": 0.1})
    good("lora", [1, 1, 1, 1], name="lora_3", seed=3, stage="seed", users=[0, 1, 2, 9])
    named = {entry.name: entry.reason for entry in left_out(results)}
    assert named["lora_2.json"] == 'ran with {"optimizer.learning_rate": 0.1}, other seeds of it with {}'
    assert "was tested on other cases, or under other rules, than lora" in named["lora_3.json"]
    assert len(named) == 2


def test_folders_without_results(tmp_path: Path, results: Path, make_result: Make) -> None:
    with pytest.raises(InputError, match="nothing: is no folder; name that of one suite"):
        read_results(tmp_path / "nothing")
    with pytest.raises(InputError, match="suite: holds no results"):
        read_results(results)
    make_result("full", [1])
    with pytest.raises(InputError, match="its folders suite do: name one of them"):
        read_results(tmp_path)
