from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import peftrec.benchmark.code_watch
import peftrec.benchmark.runner
from peftrec.benchmark.child import Ended
from peftrec.benchmark.record import hidden_places
from peftrec.benchmark.result_folder import ResultFolder
from peftrec.config import InputError, RecipeError
from peftrec.publishing import write_case_ranks

Run = Callable[..., Any]
Stored = Callable[[], dict[str, Any]]
KNN = [f"toy.item_knn.decay-{decay}.seed-0" for decay in (0.2, 0.9)]
KILLED = Ended(state="killed", reason="ended by SIGKILL", exit_code=-9, seconds=3.0)


def test_a_suite_from_nothing(run: Run, children: Any, tmp_path: Path, toy_data: Path, stored: Stored) -> None:
    progress = run()
    found = stored()
    values = {name: found[name]["valid"]["metrics"]["ndcg@10"] for name in KNN}
    best = max(KNN, key=lambda name: values[name])
    repeat = best.replace("seed-0", "seed-1")
    names = ["toy.popularity.seed-0", *KNN, repeat]
    assert children.trained() == names
    assert sorted(found) == sorted(progress.done) == sorted(names)
    assert (progress.failed, progress.missing, progress.waiting) == ({}, (), 0)
    content = found[repeat]
    assert content["run"] | {"command": ""} == {
        "name": repeat, "suite": "toy", "method": "item_knn", "kind": "baseline", "label": "item-kNN", "backbone": None,
        "dataset": "toy", "dataset_label": "toy data", "seed": 1, "stage": "seed", "tuned_on": None,
        "values": found[best]["run"]["values"], "overrides": content["run"]["overrides"],
        "recipe": str(tmp_path / "recipe.yaml"), "command": "",
    }  # fmt: skip
    assert content["status"]["state"] == "ok"
    assert content["environment"]["code"] == "a" * 64
    assert content["environment"]["dirty"] is False
    assert content["recipe"]["output_dir"] == f"runs/benchmark/toy/{repeat}"
    assert content["recipe"]["training"]["seed"] == 1
    assert {part["kind"] for part in content["slices"]} >= {"target"}
    assert "private/" not in " ".join(content["files"])
    # The ranks beside it are those of the metrics.
    ranks = pl.read_parquet(tmp_path / "results" / content["cases"]["file"])["rank"]
    assert len(ranks) == content["test"]["num_cases"] == content["cases"]["num_cases"]
    hits = np.mean([rank is not None and rank <= 10 for rank in ranks])
    assert hits == pytest.approx(content["test"]["metrics"]["hr@10"])
    # Nothing is left to do, and what need not stay is gone: the trial that lost.
    assert run().done == progress.done
    assert len(children.trained()) == len(names)
    lost = next(name for name in KNN if name != best)
    folders = {path.name for path in (tmp_path / "runs").iterdir()}
    assert folders == {*names, "logs"} - {lost}


def test_what_fails_is_recorded_and_stops_nothing(run: Run, children: Any, tmp_path: Path, stored: Stored) -> None:
    reason = "peftrec: items.csv: there is no such file"
    children.ends = {
        KNN[0]: Ended(state="failed", reason=reason, exit_code=1, seconds=2.0),
        "toy.popularity.seed-0": KILLED,
    }
    progress = run()
    assert set(progress.failed) == set(children.ends)
    assert progress.failed["toy.popularity.seed-0"] == "killed: ended by SIGKILL"
    assert len(progress.done) == 2
    found = stored()
    assert found[KNN[0]]["status"] == {"state": "failed", "reason": reason, "exit_code": 1, "seconds": 2.0}
    assert found[KNN[1].replace("seed-0", "seed-1")]["status"]["state"] == "ok"
    # Not again by itself; again when asked for, and then what waited for it.
    count = len(children.trained())
    run()
    assert len(children.trained()) == count
    children.ends = {}
    progress = run(retry_failed=True)
    assert not progress.failed
    assert KNN[0] in progress.done
    assert children.trained()[count:][:2] == ["toy.popularity.seed-0", KNN[0]]


def test_what_fails_twice_is_tried_once_a_call(run: Run, children: Any) -> None:
    children.ends = {KNN[0]: KILLED}
    run()
    before = len(children.trained())
    assert set(run(retry_failed=True).failed) == {KNN[0]}
    assert children.trained()[before:] == [KNN[0]]


def test_no_trial_ended_well(run: Run, children: Any) -> None:
    children.ends = dict.fromkeys(KNN, KILLED)
    progress = run()
    assert (len(progress.done), len(progress.failed), progress.waiting) == (1, 2, 1)


def test_paths_of_this_machine_are_not_told(
    run: Run, children: Any, tmp_path: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch, stored: Stored
) -> None:
    reason = f"peftrec: {toy_data}/items.csv: row 3; {tmp_path}/runs/logs"
    children.ends = {KNN[0]: Ended(state="failed", reason=reason, exit_code=1, seconds=2.0)}
    run(places=(f"data.root={toy_data}",), only="*knn*")
    found = stored()
    assert found[KNN[0]]["status"]["reason"] == "peftrec: data.root/items.csv: row 3; output/logs"
    assert all(f"data.root={toy_data}" in words for words in children.commands)
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/")
    assert hidden_places({"data.root": "/srv/data", "output": "/"}) == {"/srv/data": "data.root"}


def test_places_alone_are_overridden(run: Run, children: Any) -> None:
    with pytest.raises(RecipeError, match=r"of a suite only data.root and encoder.cache.folder can be overridden"):
        run(places=("training.num_epochs=1",))


def test_what_one_run_suffers_stops_no_other(
    run: Run, children: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run folders that are damaged, and a disk that is full when ranks are written."""
    run(keep="all")
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    repeat = next(path.name for path in (tmp_path / "runs").glob("*.seed-1"))
    (tmp_path / "runs" / KNN[0] / "metrics.json").write_text("{", encoding="utf-8")
    (tmp_path / "runs" / KNN[1] / "metrics.json").write_text("{}", encoding="utf-8")

    def full(folder: Path, path: Path) -> Any:
        if "popularity" in path.name:
            raise pl.exceptions.ComputeError("underlying IO error: No space left on device (os error 28)")
        if "seed-1" in path.name:
            raise PermissionError(13, "Permission denied", str(path))
        return write_case_ranks(folder, path)

    monkeypatch.setattr(peftrec.benchmark.runner, "write_case_ranks", full)
    progress = run(keep="all")
    assert progress.refused[KNN[0]].startswith(f"{tmp_path / 'runs' / KNN[0] / 'metrics.json'}: cannot be read")
    assert progress.refused[KNN[1]].startswith(f"{tmp_path / 'runs' / KNN[1]}: is damaged (KeyError: 'training')")
    assert "No space left on device" in progress.refused["toy.popularity.seed-0"]
    shutil.rmtree(tmp_path / "runs" / KNN[0])
    shutil.rmtree(tmp_path / "runs" / KNN[1])
    progress = run(keep="all")
    assert progress.done == tuple(KNN)
    assert "Permission denied" in progress.refused[repeat]


def test_a_number_that_json_does_not_have(run: Run, children: Any, tmp_path: Path) -> None:
    run(only="*popularity*")
    folder = ResultFolder(tmp_path / "results")
    (content,) = folder.read().values()
    with pytest.raises(InputError, match=r"toy.popularity.seed-0: no JSON can be made of its result"):
        folder.write({**content, "training": {**content["training"], "train_seconds": float("nan")}})
    assert folder.read() == {content["run"]["name"]: content}


def test_two_at_once_make_no_run_twice(run: Run, children: Any, tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "results").locked(KNN[0]) as lock:
        assert lock is not None
        progress = run()
    assert progress.refused == {KNN[0]: "another process makes it"}
    assert sorted(progress.done) == sorted(["toy.popularity.seed-0", KNN[1]])
    assert progress.waiting == 1
    assert KNN[0] not in children.trained()
    assert len(run().done) == 4


def test_a_stop_leaves_nothing_behind(run: Run, children: Any, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    children.before = stop
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not list((tmp_path / "results").iterdir())


def test_an_interrupted_run_has_no_result(run: Run, children: Any, tmp_path: Path) -> None:
    """It says nothing about the run, which is made again."""
    children.before = lambda: children.ends.clear() if len(children.commands) == 1 else None
    children.ends = {KNN[0]: Ended(state="interrupted", reason=None, exit_code=130, seconds=1.0)}
    assert KNN[0] in run(only="*knn*").done
    assert children.trained().count(KNN[0]) == 2


def test_jobs_at_a_time(run: Run, children: Any, tmp_path: Path) -> None:
    """Two trials begin together: each waits until the other is there."""
    both = threading.Barrier(2, timeout=60)
    waited: list[str] = []

    def meet() -> None:
        if len(waited) < 2:
            waited.append("")
            both.wait()

    children.before = meet
    children.ends = dict.fromkeys(KNN, KILLED)
    assert len(run(jobs=2, only="*knn*").failed) == 2


def test_folders_of_results_hold_results(run: Run, children: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="lies in the folder of results"):
        run(output=tmp_path / "results" / "runs")
