from __future__ import annotations

import json
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
KNN = [f"toy.item_knn.decay-{decay}.seed-0" for decay in (0.2, 0.9)]
KILLED = Ended(state="killed", reason="ended by SIGKILL", exit_code=-9, seconds=3.0)


def results(tmp_path: Path) -> dict[str, Any]:
    paths = sorted((tmp_path / "results").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_suite_from_nothing(run: Run, children: Any, tmp_path: Path, toy_data: Path) -> None:
    progress = run()
    found = results(tmp_path)
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


def test_what_fails_is_recorded_and_stops_nothing(run: Run, children: Any, tmp_path: Path) -> None:
    reason = "peftrec: items.csv: there is no such file"
    children.ends = {
        KNN[0]: Ended(state="failed", reason=reason, exit_code=1, seconds=2.0),
        "toy.popularity.seed-0": KILLED,
    }
    progress = run()
    assert set(progress.failed) == set(children.ends)
    assert progress.failed["toy.popularity.seed-0"] == "killed: ended by SIGKILL"
    assert len(progress.done) == 2
    found = results(tmp_path)
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
    run: Run, children: Any, tmp_path: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = f"peftrec: {toy_data}/items.csv: row 3; {tmp_path}/runs/logs"
    children.ends = {KNN[0]: Ended(state="failed", reason=reason, exit_code=1, seconds=2.0)}
    run(places=(f"data.root={toy_data}",), only="*knn*")
    found = results(tmp_path)
    assert found[KNN[0]]["status"]["reason"] == "peftrec: data.root/items.csv: row 3; output/logs"
    assert all(f"data.root={toy_data}" in words for words in children.commands)
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/")
    assert hidden_places({"data.root": "/srv/data", "output": "/"}) == {"/srv/data": "data.root"}


def test_places_alone_are_overridden(run: Run, children: Any) -> None:
    with pytest.raises(RecipeError, match=r"of a suite only data.root and encoder.cache.folder can be overridden"):
        run(places=("training.num_epochs=1",))


def test_a_folder_that_is_there_is_taken_up(run: Run, children: Any, tmp_path: Path) -> None:
    run(keep="all")
    before = results(tmp_path)
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    children.commands.clear()
    run(keep="all")
    assert children.trained() == []
    after = results(tmp_path)
    assert {name: content["test"]["metrics"] for name, content in after.items()} == {
        name: content["test"]["metrics"] for name, content in before.items()
    }
    assert {content["environment"]["code"] for content in after.values()} == {"a" * 64}
    # One of another recipe is not, and the rest is made.
    (tmp_path / "results" / f"{KNN[0]}.json").unlink()
    (tmp_path / "runs" / KNN[0]).rename(tmp_path / "aside")
    (tmp_path / "runs" / KNN[1]).rename(tmp_path / "runs" / KNN[0])
    (tmp_path / "results" / "toy.popularity.seed-0.json").unlink()
    progress = run(keep="all")
    assert "holds a run of another recipe: baseline.decay (0.9, the suite has 0.2)" in progress.refused[KNN[0]]
    assert "toy.popularity.seed-0" in progress.done
    assert progress.missing == ()


def test_of_a_folder_of_changed_code_nothing_is_known(run: Run, children: Any, tmp_path: Path) -> None:
    """What this call trains is of the code at hand; without its mark, who made a folder that was there is unknown."""
    children.commit += "+"
    run(only=KNN[0], keep="all")
    made = results(tmp_path)[KNN[0]]["environment"]
    assert (made["commit"], made["dirty"], made["code"]) == ("c" * 40, False, "a" * 64)
    (tmp_path / "results" / f"{KNN[0]}.json").unlink()
    assert run(only=KNN[0], keep="all").done
    assert results(tmp_path)[KNN[0]]["environment"] == made
    (tmp_path / "results" / f"{KNN[0]}.json").unlink()
    (tmp_path / "runs" / "logs" / f"{KNN[0]}.code.json").unlink()
    refused = run(only=KNN[0], keep="all").refused
    assert f"was not made by the code at hand alone (commit {'c' * 40}+)" in refused[KNN[0]]
    run(only=KNN[0], keep="all", allow_mixed=True)
    taken = results(tmp_path)[KNN[0]]["environment"]
    assert (taken["commit"], taken["dirty"], taken["code"]) == ("c" * 40, True, None)


def test_a_stopped_training_goes_on(run: Run, children: Any, tmp_path: Path) -> None:
    (tmp_path / "runs" / f"{KNN[0]}.partial" / "private" / "checkpoints").mkdir(parents=True)
    children.ends = {KNN[0]: KILLED}
    run(only="*decay-0.2*")
    assert children.commands[0][-1] == "--resume"


def test_other_code_goes_on_with_no_training(run: Run, children: Any, tmp_path: Path) -> None:
    partial = tmp_path / "runs" / f"{KNN[0]}.partial"
    mark = tmp_path / "runs" / "logs" / f"{KNN[0]}.code.json"
    (partial / "private" / "checkpoints").mkdir(parents=True)
    mark.parent.mkdir()
    mark.write_text(json.dumps({"code": "b" * 64, "dirty": False}), encoding="utf-8")
    refused = run(only=KNN[0]).refused
    assert refused[KNN[0]].startswith(f"{partial}: the stopped training was begun by other code; ")
    assert not children.commands
    children.ends = {KNN[0]: KILLED}
    run(only=KNN[0], allow_mixed=True)
    assert json.loads(mark.read_text(encoding="utf-8")) == {"code": None, "dirty": True}


def test_code_that_changes_while_a_suite_runs(
    run: Run, children: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that begin later would be of that other code."""

    def change() -> None:
        if len(children.commands) == 2:  # the first run has been trained and evaluated
            monkeypatch.setattr(peftrec.benchmark.code_watch, "code_of_files", lambda: "b" * 64)

    children.before = change
    progress = run()
    assert progress.done == ("toy.popularity.seed-0",)
    # What was under way when it changed is not recorded, and nothing else begins.
    assert "was not made by the code at hand alone" in progress.refused[KNN[0]]
    assert "the code has changed since the suite began" in progress.refused[KNN[1]]
    assert sorted(results(tmp_path)) == ["toy.popularity.seed-0"]


def test_other_code_is_not_mixed_in(run: Run, children: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(only="*popularity*")
    path = tmp_path / "results" / "toy.popularity.seed-0.json"
    edit(path, lambda content: content["environment"].update(code="b" * 64, commit="c" * 40))
    with pytest.raises(InputError, match=f"popularity.seed-0.json: was made by other code .commit {'c' * 40}."):
        run()
    assert run(only="*popularity*").done  # nothing is to be run, so nothing is mixed
    assert len(children.trained()) == 1
    assert len(run(allow_mixed=True).done) == 4
    # Code that no commit has.
    monkeypatch.setattr(peftrec.benchmark.code_watch, "is_dirty", lambda: True)
    (tmp_path / "results" / f"{KNN[0]}.json").unlink()
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(InputError, match="the code differs from its commit"):
        run()
    run(allow_mixed=True)
    assert results(tmp_path)[KNN[0]]["environment"]["dirty"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as JSON"), ('{"loss": 3}', "is no result of a benchmark"), ("[]", "is no result")],
)
def test_a_foreign_file_is_named(run: Run, children: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "notes.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"notes.json: .*{message}"):
        run()
    assert not children.commands


def test_a_result_under_another_name_is_named(run: Run, children: Any, tmp_path: Path) -> None:
    run(only="*popularity*")
    path = tmp_path / "results" / "toy.popularity.seed-0.json"
    path.rename(path.with_name("other.json"))
    with pytest.raises(InputError, match=r"other.json: calls itself 'toy.popularity.seed-0'"):
        run()


def test_a_result_of_another_run_does_not_count(run: Run, children: Any, tmp_path: Path) -> None:
    """Suites change, and folders are shared: a name alone tells little."""
    run()
    path, count = tmp_path / "results" / f"{KNN[1]}.json", len(children.commands)
    text = path.read_text(encoding="utf-8")

    def told(change: Callable[[dict[str, Any]], Any]) -> str:
        edit(path, change)
        progress = run()
        path.write_text(text, encoding="utf-8")
        assert (len(children.commands), KNN[1] in progress.done, progress.waiting) == (count, False, 1)
        return str(progress.refused[KNN[1]]).removeprefix(f"{tmp_path / 'results'}/{KNN[1]}")

    assert told(lambda content: content["run"].update(suite="cpu")) == (
        ".json: is another run's: its suite is 'cpu', the suite has 'toy'; move it away"
    )
    assert "its stage is 'seed', the suite has 'trial'" in told(lambda content: content["run"].update(stage="seed"))
    assert "its tuned_on is 'a', the suite has None" in told(lambda content: content["run"].update(tuned_on="a"))
    changed = told(lambda content: content["recipe"]["training"].update(num_epochs=77))
    assert changed.startswith(".json: is of another recipe: training.num_epochs (77, the suite has ")
    assert "its recipe cannot be read" in told(lambda content: content["recipe"].clear())
    assert "valid.metrics has no ndcg@10" in told(lambda content: content["valid"]["metrics"].update({"ndcg@10": None}))
    path.with_suffix(".parquet").rename(tmp_path / "aside")
    assert told(lambda _: None).startswith(".parquet: is missing, and without it the report leaves")


def test_a_failure_of_other_settings_is_none_of_these(run: Run, children: Any, tmp_path: Path) -> None:
    children.ends = {KNN[0]: KILLED}
    run(only=KNN[0])
    children.ends = {}
    assert KNN[0] in run(only=KNN[0]).failed
    path = tmp_path / "results" / f"{KNN[0]}.json"
    # Of other code too: it has no figures that could be mixed with those of this code.
    edit(path, lambda content: content["run"]["overrides"].append("training.batch_users=512"))
    edit(path, lambda content: content["environment"].update(code="b" * 64))
    assert KNN[0] in run(only=KNN[0]).done


def test_results_of_no_run_are_told(run: Run, children: Any, tmp_path: Path) -> None:
    run(only="*popularity*")
    folder = tmp_path / "results"
    text = (folder / "toy.popularity.seed-0.json").read_text(encoding="utf-8")
    (folder / "toy.renamed.seed-0.json").write_text(text.replace("toy.popularity", "toy.renamed"), encoding="utf-8")
    progress = run(only="*popularity*")
    assert (progress.strangers, progress.done) == (("toy.renamed.seed-0",), ("toy.popularity.seed-0",))


def test_a_pattern_that_matches_nothing(run: Run, children: Any) -> None:
    with pytest.raises(RecipeError, match=r"only: 'beauty.*' matches no run of the suite; they are called toy.popular"):
        run(only="beauty.*")
    # Names that wait for trials are known, by what they will be called and as a forecast calls them.
    children.ends = dict.fromkeys(KNN, KILLED)
    run(only="*knn*seed-0")
    assert run(only="*.best.seed-1").waiting == 1
    assert run(only="*decay-0.9.seed-1").missing == ()


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
