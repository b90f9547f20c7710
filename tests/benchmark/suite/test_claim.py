"""Which results and run folders count as those of a suite: of its runs, and of one code."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftrec.benchmark.code_watch
import peftrec.benchmark.runner
from peftrec.benchmark.child import Ended
from peftrec.config import InputError, RecipeError

Run = Callable[..., Any]
Stored = Callable[[], dict[str, Any]]
KNN = [f"toy.item_knn.decay-{decay}.seed-0" for decay in (0.2, 0.9)]
KILLED = Ended(state="killed", reason="ended by SIGKILL", exit_code=-9, seconds=3.0)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_that_is_there_is_taken_up(run: Run, children: Any, tmp_path: Path, stored: Stored) -> None:
    run(keep="all")
    before = stored()
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    children.commands.clear()
    run(keep="all")
    assert children.trained() == []
    after = stored()
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


def test_of_a_folder_of_changed_code_nothing_is_known(run: Run, children: Any, tmp_path: Path, stored: Stored) -> None:
    """What this call trains is of the code at hand; without its mark, who made a folder that was there is unknown."""
    children.commit += "+"
    run(only=KNN[0], keep="all")
    made = stored()[KNN[0]]["environment"]
    assert (made["commit"], made["dirty"], made["code"]) == ("c" * 40, False, "a" * 64)
    (tmp_path / "results" / f"{KNN[0]}.json").unlink()
    assert run(only=KNN[0], keep="all").done
    assert stored()[KNN[0]]["environment"] == made
    (tmp_path / "results" / f"{KNN[0]}.json").unlink()
    (tmp_path / "runs" / "logs" / f"{KNN[0]}.code.json").unlink()
    refused = run(only=KNN[0], keep="all").refused
    assert f"was not made by the code at hand alone (commit {'c' * 40}+)" in refused[KNN[0]]
    run(only=KNN[0], keep="all", allow_mixed=True)
    taken = stored()[KNN[0]]["environment"]
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
    run: Run, children: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: Stored
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
    assert sorted(stored()) == ["toy.popularity.seed-0"]


def test_other_code_is_not_mixed_in(
    run: Run, children: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: Stored
) -> None:
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
    assert stored()[KNN[0]]["environment"]["dirty"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as JSON"), ('{"loss": 3}', "is no result of a benchmark"), ("[]", "is no result")],
)
def test_a_foreign_file_is_named(run: Run, children: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "notes.json").write_text(text, encoding="utf-8")
    progress = run()
    assert set(progress.refused) == {"notes"}
    assert f"{tmp_path / 'results' / 'notes.json'}: " in progress.refused["notes"]
    assert message in progress.refused["notes"]
    assert len(progress.done) == 4  # it stops no run


def test_a_foreign_file_in_the_place_of_a_result_stays(run: Run, children: Any, tmp_path: Path) -> None:
    """Its run is not made, since that would write over it, nor what waits for it; the rest is."""
    (tmp_path / "results").mkdir()
    path = tmp_path / "results" / f"{KNN[0]}.json"
    path.write_text("{", encoding="utf-8")
    progress = run()
    assert set(progress.refused) == {KNN[0]}
    assert sorted(progress.done) == sorted(["toy.popularity.seed-0", KNN[1]])
    assert (progress.waiting, path.read_text(encoding="utf-8")) == (1, "{")


def test_a_foreign_file_that_comes_meanwhile_stops_nothing(run: Run, children: Any, tmp_path: Path) -> None:
    def interfere() -> None:
        (tmp_path / "results" / "notes.json").write_text('{"foreign": 1}', encoding="utf-8")

    children.before = interfere
    progress = run()
    assert (len(progress.done), set(progress.refused)) == (4, {"notes"})


def test_a_result_under_another_name_is_named(run: Run, children: Any, tmp_path: Path) -> None:
    run(only="*popularity*")
    path = tmp_path / "results" / "toy.popularity.seed-0.json"
    path.rename(path.with_name("other.json"))
    assert "other.json: calls itself 'toy.popularity.seed-0'" in run().refused["other"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_recipes_that_no_commit_has_are_refused(
    run: Run, children: Any, suite_path: Path, tmp_path: Path, stored: Stored
) -> None:
    """They decide what runs become as code does; the commit that results name would train something else."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("add", "recipe.yaml")
    git("commit", "-qm", "recipe")
    with pytest.raises(InputError, match=f"^{suite_path} differs from its commit"):
        run()
    git("add", "toy.yaml")
    git("commit", "-qm", "suite")
    assert run(only="*popularity*").done
    recipe = suite_path.with_name("recipe.yaml")
    recipe.write_text(recipe.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"^{recipe} differs from its commit"):
        run()
    run(allow_mixed=True)
    found = stored()
    assert found["toy.popularity.seed-0"]["environment"]["dirty"] is False
    assert found[KNN[0]]["environment"]["dirty"] is True


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
