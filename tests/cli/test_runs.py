from __future__ import annotations

import contextlib
import datetime
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.cli import main
from peftrec.config import InputError
from peftrec.listing import RunRow, list_runs
from peftrec.training.checkpoint import PARTS, Checkpoint
from peftrec.training.checkpoint_folder import CheckpointFolder
from peftrec.training.progress import TrainingProgress
from peftrec.training.progress_file import read_progress, write_progress
from peftrec.training.run_lock import running
from peftrec.training.snapshot import CHECKPOINTS
from peftrec.training.state import TrainingState

RECIPE = {"method.kind": "adapter", "encoder.backbone": "org/base", "training.metric": "ndcg@10"}


def write_partial(folder: Path, **changes: Any) -> Path:
    """Write what a training in progress has of itself; the folder is returned."""
    with TrainingProgress(300, enabled=True, folder=folder, recipe=RECIPE) as progress:
        progress.epoch({"epoch": 1.0, "loss": 2.0, "train_seconds": 1.0, "ndcg@10": 0.25, "hr@10": 0.5}, best=True)
    known = read_progress(folder)
    assert known is not None
    write_progress(folder, known | {"state": "running", "step": 120, "seconds_left": 720.0} | changes)
    rows = [{"epoch": 1.0, "loss": 2.0, "train_seconds": 1.0, "ndcg@10": 0.25, "hr@10": 0.5}]
    rows += [{"epoch": 2.0, "loss": 1.0, "train_seconds": 1.0, "ndcg@10": 0.2, "hr@10": 0.75}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def write_checkpoint(folder: Path, *, best_metric: float = 0.25) -> Path:
    """Write a checkpoint that ends an epoch."""
    state = TrainingState(epoch=2, step=100, seconds=61.0, best_epoch=1, best_metric=best_metric)
    parts: dict[str, Any] = {part: {} for part in PARTS}
    CheckpointFolder(folder / CHECKPOINTS).save(Checkpoint(**parts, state=state, settings=RECIPE))
    return folder


def only(folder: Path) -> RunRow:
    found = list_runs(folder)
    assert found.left_out == ()
    (row,) = found.runs
    return row


def test_a_finished_run_is_told_with_what_it_reached(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = only(trained.parent)
    measured = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    assert (row.name, row.state, row.told, row.metric) == ("run", "done", "done", "ndcg@10")
    assert row.what.startswith("lora, tiny_bert")
    assert row.valid == measured["valid"]["model"]["metrics"]
    assert row.test == measured["test"]["model"]["metrics"]
    assert row.parameters == sum(part["trainable"] for part in measured["parameters"])
    assert row.seconds == measured["training"]["train_seconds"]
    assert row.step == row.num_steps == measured["training"]["num_steps"]
    assert abs(row.when - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(hours=1)
    assert only(trained).name == "run"
    assert main(["runs", str(trained.parent)]) == 0
    head, _, cells = (line for line in capsys.readouterr().out.splitlines() if line.strip())
    assert "NDCG@10 valid" in head
    assert f"{row.valid['ndcg@10']:.4f}" in cells
    assert f" {row.parameters:,} " in cells


def test_a_baseline_and_an_ensemble_are_named_as_such(
    trained: Path, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    assert main(["train", str(write_recipe(tmp_path, "baseline={kind: popularity}"))]) == 0
    assert only(tmp_path).what == "popularity (baseline)"
    assert only(tmp_path).parameters == 0
    out = tmp_path / "deep" / "both"
    assert main(["ensemble", str(trained), str(tmp_path / "run"), "--output", str(out)]) == 0
    rows = list_runs(tmp_path).runs
    assert [(row.name, row.what) for row in rows] == [
        ("deep/both", "ensemble of 2"),
        ("run", "popularity (baseline)"),
    ], "its members are not listed"


def test_a_training_is_told_with_how_far_it_is(tmp_path: Path) -> None:
    with running(tmp_path / "a.partial"):
        write_partial(tmp_path / "a.partial")
        row = only(tmp_path)
    assert (row.name, row.what, row.state) == ("a.partial", "adapter, base", "running")
    assert row.told == "running, 40%, 12 min left"
    assert (row.step, row.num_steps, row.seconds_left) == (120, 300, 720.0)
    assert row.valid == {"ndcg@10": 0.25, "hr@10": 0.5}, "of the best epoch"
    assert row.test == {}


STATES: dict[str, tuple[dict[str, Any], bool, bool, str, str | None]] = {
    # What progress.json says, whether it runs, whether there is a checkpoint; words in the table, words below it.
    "finishing": ({"state": "trained"}, True, True, "trained, is measured and saved", None),
    "begun again": ({"state": "failed", "reason": "x"}, True, True, "running, has not begun to train", None),
    "killed": ({}, False, True, "stopped, 40%", "stopped at step 120 of 300; --resume goes on from step 100"),
    "interrupted": (
        {"state": "stopped"}, False, False, "stopped, 40%", "stopped at step 120 of 300; there is no checkpoint yet",
    ),
    "failed": (
        {"state": "failed", "reason": "the loss became nan"}, False, True,
        "failed, 40%", "failed at step 120 of 300: the loss became nan; --resume goes on from step 100",
    ),
    "not saved": (
        {"state": "trained"}, False, True,
        "stopped, 40%", "stopped after training, before it was saved; --resume goes on from step 100",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("written", "runs", "checkpoint", "told", "note"), STATES.values(), ids=STATES)
def test_the_state_is_that_of_lock_and_file(
    tmp_path: Path, written: dict[str, Any], runs: bool, checkpoint: bool, told: str, note: str | None
) -> None:
    folder = tmp_path / "a.partial"
    with running(folder) if runs else contextlib.nullcontext():
        write_partial(folder, **written)
        if checkpoint:
            write_checkpoint(folder)
        row = only(tmp_path)
    assert (row.told, row.note) == (told, note)
    assert row.state == {"trained, is measured and saved": "finishing"}.get(told, told.partition(",")[0])
    assert row.seconds_left is None


def test_a_run_without_progress_is_told_by_its_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.partial", best_metric=-math.inf)
    row = only(tmp_path)
    assert (row.what, row.told) == ("adapter, base", "stopped")
    assert (row.state, row.note) == ("stopped", "stopped before its first step; --resume goes on from step 100")
    assert (row.step, row.seconds, row.valid) == (100, 61.0, {"ndcg@10": None})
    json.dumps(row.to_json(), allow_nan=False)


@pytest.mark.parametrize("state", ["running", "trained"])
def test_what_a_killed_process_told_is_not_taken_for_the_one_that_resumes(tmp_path: Path, state: str) -> None:
    folder = write_checkpoint(write_partial(tmp_path / "a.partial", state=state))
    with running(folder):
        row = only(tmp_path)
    assert (row.state, row.told, row.seconds_left) == ("running", "running, has not begun to train", None)
    assert only(tmp_path).note == "stopped at step 120 of 300; --resume goes on from step 100"


def test_a_run_that_builds_is_running(tmp_path: Path) -> None:
    with running(tmp_path / "a.partial"):
        row = only(tmp_path)
    assert (row.what, row.state, row.told) == ("-", "running", "running, has not begun to train")


def test_where_there_are_no_locks_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_partial(tmp_path / "a.partial")
    monkeypatch.setattr("peftrec.listing.is_running", lambda _: None)
    row = only(tmp_path)
    assert (row.state, row.told) == ("unknown", "running or stopped, 40%")
    assert row.note is not None
    assert row.note.startswith("at step 120 of 300 when last heard of; this system cannot tell whether it runs")


BROKEN: dict[str, Callable[[Path], Any]] = {
    "half a manifest": lambda run: (run / "peftrec.json").write_text('{"format_ver', encoding="utf-8"),
    "a foreign manifest": lambda run: (run / "peftrec.json").write_text('{"name": "x"}', encoding="utf-8"),
    "a manifest that is a list": lambda run: (run / "peftrec.json").write_text("[]", encoding="utf-8"),
    "a manifest that is no text": lambda run: (run / "peftrec.json").write_bytes(b"\xff\xfe\x00"),
    "no recipe": lambda run: (run / "recipe.yaml").unlink(),
    "half a recipe": lambda run: (run / "recipe.yaml").write_text("data: {kind: [", encoding="utf-8"),
    "foreign metrics": lambda run: (run / "metrics.json").write_text('{"accuracy": 1}', encoding="utf-8"),
    "metrics of words": lambda run: (run / "metrics.json").write_text(
        '{"parameters": [], "training": {"train_seconds": 1}, "valid": {"model": {"metrics": {"hr@10": "high"}}}, '
        '"test": {"model": {"metrics": {}}}}', encoding="utf-8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_run_is_named_and_the_rest_is_listed(
    damage: Callable[[Path], Any], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("broken", "whole"):
        shutil.copytree(trained, tmp_path / name)
    damage(tmp_path / "broken")
    assert main(["runs", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines() if " done " in line] == ["whole"]
    (line,) = shown.err.splitlines()
    assert line.startswith(f"left out: broken: {tmp_path}/broken/")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("private/progress.json", "{"),
        ("private/progress.json", '{"done": 1}'),
        ("private/checkpoints/step-00000100-epoch-end/checkpoint.json", "[1]"),
        ("private/checkpoints/step-00000100-epoch-end/checkpoint.json", '{"settings": 3}'),
        ("metrics.jsonl", '{"epoch": 1.0}\n{"epo'),
        ("metrics.jsonl", "[]\n"),
    ],
)
def test_a_broken_training_is_named_and_the_rest_is_listed(tmp_path: Path, file: str, text: str) -> None:
    write_partial(write_checkpoint(tmp_path / "a.partial"))
    write_partial(tmp_path / "b.partial")
    (tmp_path / "a.partial" / file).write_text(text, encoding="utf-8")
    found = list_runs(tmp_path)
    assert [row.name for row in found.runs] == ["b.partial"]
    assert [name for name, _ in found.left_out] == ["a.partial"]


def test_a_metrics_file_that_is_not_there_leaves_the_run_listed(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "metrics.json").unlink()
    row = only(tmp_path)
    assert (row.state, row.valid, row.parameters) == ("done", {}, None)


def test_runs_are_sorted_by_what_validation_says(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"a": 0.25, "b": 0.75, "c": None}.items():
        shutil.copytree(trained, tmp_path / name)
        metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
        metrics["valid"]["model"]["metrics"] |= {"hr@10": value, "calibration@10": value}
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    write_partial(tmp_path / "d.partial")
    assert [row.name for row in list_runs(tmp_path, sort="hr@10").runs] == ["b", "d.partial", "a", "c"]
    assert [row.name for row in list_runs(tmp_path, sort="calibration@10").runs][:2] == ["a", "b"], "lower is better"
    assert main(["runs", str(tmp_path), "--sort", "hr@10"]) == 0
    assert "HR@10 valid" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--sort mrr@3: no run in .* has this validation metric; there are .*hr@10"):
        list_runs(tmp_path, sort="mrr@3")


def test_json_holds_rows_and_what_was_left_out(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "done")
    write_partial(tmp_path / "a.partial")
    write_partial(tmp_path / "b.partial", state="sleeping")
    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    document = json.loads(shown.out)
    assert [(row["name"], row["state"]) for row in document["runs"]] == [("a.partial", "stopped"), ("done", "done")]
    assert datetime.datetime.fromisoformat(document["runs"][1]["when"]).utcoffset() == datetime.timedelta(0)
    assert [row["name"] for row in document["left_out"]] == ["b.partial"]


def test_other_folders_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.partial").mkdir()
    (tmp_path / ".hidden" / "a.partial" / "private").mkdir(parents=True)
    (tmp_path / "data" / "private").mkdir(parents=True)
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: there are no runs in it\n"
    assert main(["runs", str(tmp_path / "nowhere")]) == 1
    assert "nowhere: there is no such folder" in capsys.readouterr().err


def test_other_metrics_are_named_in_their_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_partial(tmp_path / "a.partial")
    write_partial(tmp_path / "b.partial", recipe=RECIPE | {"training.metric": "hr@10"})
    assert main(["runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "ndcg@10 0.2500" in shown
    assert "hr@10 0.5000" in shown
    assert "a.partial: stopped at step 120 of 300; there is no checkpoint yet\n" in shown
