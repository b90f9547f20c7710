"""Studies: their trials, what happens to those that are lost, and who may go on with them. Nothing trains here."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import InputError, RecipeError
from peftrec.tuning import Study, read_space
from peftrec.tuning.liveness import SILENT_SECONDS, process_mark
from peftrec.tuning.roll import MAX_KILLS
from peftrec.tuning.storage import public_url

MakeRecipe = Callable[..., Any]
GRID = {"baseline.shrinkage": [0, 5], "baseline.decay": [0.5, 0.9]}
POINTS = [(0, 0.5), (0, 0.9), (5, 0.5), (5, 0.9)]
RANGES = {
    "baseline.shrinkage": {"low": 0, "high": 100},
    "baseline.num_neighbours": {"low": 1, "high": 1000, "log": True},
}


@pytest.fixture
def begin(make_recipe: MakeRecipe, tmp_path: Path) -> Callable[..., Study]:
    """Begin a study of item_knn in a folder, or go on with it."""

    def begin(space: Any = GRID, *overrides: str, place: Any = None, **settings: Any) -> Study:
        recipe = make_recipe("baseline.kind=item_knn", *overrides)
        settings = {"name": "knn", "sampler": "grid", "num_trials": None, "seed": 0, "metric": "ndcg@10"} | settings
        return Study.open(place or tmp_path / "study", recipe=recipe, space=read_space(space, recipe), **settings)

    return begin


def run_all(study: Study) -> list[tuple[Any, ...]]:
    """Run what is left, and return the values in their order."""
    found = []
    while (trial := study.ask()) is not None:
        found.append(tuple(trial.values.values()))
        study.tell(trial, 0.1 + 0.01 * len(found))
    return found


def test_a_grid_visits_each_point_once_in_order(begin: Callable[..., Study]) -> None:
    study = begin()
    assert run_all(study) == POINTS
    assert study.ask() is None
    best = study.best()
    assert (best.number, best.value, best.overrides) == (3, 0.14, ["baseline.shrinkage=5", "baseline.decay=0.9"])
    assert [trial.number for trial in study.trials()] == [0, 1, 2, 3]


def test_of_equal_values_the_first_is_best(begin: Callable[..., Study]) -> None:
    study = begin()
    for value in (0.2, 0.3, 0.3):
        study.tell(study.ask(), value)
    assert study.best().number == 1


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_goes_on_where_it_stopped_with_the_values_it_would_have_had(
    begin: Callable[..., Study], tmp_path: Path, sampler: Any
) -> None:
    straight = run_all(begin(RANGES, sampler=sampler, num_trials=5, place=tmp_path / "straight"))
    first = begin(RANGES, sampler=sampler, num_trials=5)
    values = []
    for row in range(3):
        trial = first.ask()
        values.append(tuple(trial.values.values()))
        first.tell(trial, 0.1 + 0.01 * (row + 1))
    second = begin(RANGES, sampler=sampler, num_trials=5)
    while (trial := second.ask()) is not None:
        values.append(tuple(trial.values.values()))
        second.tell(trial, 0.1 + 0.01 * len(values))
    assert values == straight
    assert len(set(values)) == 5
    assert begin(RANGES, sampler=sampler, num_trials=6).ask() is not None


@pytest.mark.parametrize(
    ("overrides", "changed", "message"),
    [
        (["baseline.num_neighbours=3"], {}, r"recipe baseline\.num_neighbours \(then 500, now 3\)"),
        ([], {"space": {"baseline.shrinkage": [0, 7]}}, r"space baseline\.shrinkage \(then \[0, 5\], now \[0, 7\]\)"),
        ([], {"space": {"baseline.shrinkage": [0, 5]}}, r"baseline\.decay"),
        ([], {"data_sha256": "b" * 64}, r"data_sha256 \(then 'aaa"),
        ([], {"metric": "hr@10"}, r"metric \(then 'ndcg@10', now 'hr@10'\)"),
        ([], {"sampler": "random", "num_trials": 4}, "sampler"),
        ([], {"seed": 1}, r"seed \(then 0, now 1\)"),
    ],
)
def test_another_recipe_space_data_or_metric_is_refused(
    begin: Callable[..., Study], overrides: list[str], changed: dict[str, Any], message: str
) -> None:
    begin(data_sha256="a" * 64)
    with pytest.raises(InputError, match=rf"study 'knn' in .*: was begun otherwise: .*{message}"):
        begin(changed.pop("space", GRID), *overrides, **{"data_sha256": "a" * 64} | changed)


def test_what_decides_nothing_and_what_is_searched_over_may_change(begin: Callable[..., Study]) -> None:
    begin()
    begin(GRID, "output_dir=elsewhere", "evaluation.batch_users=7", "baseline.decay=0.3")


def dead_process() -> dict[str, Any]:
    """The mark of a process on this machine that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return process_mark() | {"pid": ended.pid}


def lose(study: Study, monkeypatch: pytest.MonkeyPatch, mark: dict[str, Any]) -> Any:
    """Ask for a trial in a process that then ends."""
    with monkeypatch.context() as patched:
        patched.setattr("peftrec.tuning.roll.process_mark", lambda: mark)
        return study.ask()


@pytest.mark.parametrize(("space", "sampler"), [(GRID, "grid"), (RANGES, "random")])
def test_the_values_of_a_killed_process_are_tried_again(
    begin: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, space: Any, sampler: Any
) -> None:
    settings = {"sampler": sampler, "num_trials": 4}
    lost = lose(begin(space, **settings), monkeypatch, dead_process())
    study = begin(space, **settings)
    values = run_all(study)
    assert len(values) == len(set(values)) == 4
    assert tuple(lost.values.values()) in values
    first, *others = study.trials()
    assert (first.state, first.values) == ("failed", lost.values)
    assert "ended without a word" in first.reason
    assert "tried again" in first.reason
    assert [trial.state for trial in others] == ["complete"] * 4


@pytest.mark.parametrize(("space", "sampler"), [(GRID, "grid"), (RANGES, "random")])
def test_values_that_kill_their_process_are_given_up_in_the_end(
    begin: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, space: Any, sampler: Any
) -> None:
    mark = dead_process()
    study = begin(space, sampler=sampler, num_trials=1)
    lost = [lose(study, monkeypatch, mark) for _ in range(MAX_KILLS)]
    assert all(trial.values == lost[0].values for trial in lost)
    assert study.ask() is None
    with pytest.raises(InputError, match=rf"none of {MAX_KILLS} trials ended well: .*so did 2 others with its values"):
        study.best()


def test_a_trial_of_another_machine_is_given_up_when_it_has_long_been_silent(
    begin: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = process_mark() | {"machine": "elsewhere"}
    there, here = begin(num_trials=1), begin(num_trials=1)
    lost = lose(there, monkeypatch, elsewhere)
    assert here.ask() is None
    now = time.time()
    monkeypatch.setattr("peftrec.tuning.liveness.time.time", lambda: now + SILENT_SECONDS + 1)
    again = here.ask()
    assert again.values == lost.values
    with pytest.raises(InputError, match="trial 0 was ended by another process"):
        there.tell(lost, 0.9)
    here.tell(again, 0.2)
    assert here.best().value == 0.2


def test_processes_side_by_side_share_a_grid(begin: Callable[..., Study], make_recipe: MakeRecipe) -> None:
    """Each thread has a connection of its own, as processes have."""
    space = {"baseline.num_neighbours": {"low": 1, "high": 12, "step": 1}}
    studies = [begin(space) for _ in range(4)]
    found: list[list[tuple[Any, ...]]] = [[] for _ in studies]
    workers = [
        threading.Thread(target=lambda place=place: found[place].extend(run_all(studies[place])))
        for place in range(len(studies))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(value for values in found for (value,) in values) == list(range(1, 13))


def test_of_two_trials_with_one_place_the_first_keeps_it(begin: Callable[..., Study]) -> None:
    """What a server may show when two processes begin at once: a point queued twice, or one trial too many."""
    study = begin(num_trials=2)
    study._roll.fill_queue()
    for attributes in ({"slot": "point 0"}, {}):
        study._study.enqueue_trial({"baseline.shrinkage": 0, "baseline.decay": 0.5}, user_attrs=attributes)
    assert run_all(study) == POINTS[:2]
    assert len(study.trials()) == 2
    drawn = begin(RANGES, sampler="random", num_trials=2, name="drawn")
    asked = [drawn._study.ask() for _ in range(3)]
    assert [drawn._roll.is_surplus(trial.number) for trial in asked] == [False, False, True]


def test_a_trial_that_fails_is_kept_with_its_reason(begin: Callable[..., Study]) -> None:
    study = begin()
    study.tell(study.ask(), None, reason="out of memory")
    study.tell(study.ask(), float("nan"))
    with pytest.raises(InputError, match=r"none of 2 trials ended well: out of memory; ndcg@10 is nan"):
        study.best()
    pruned = study.ask()
    study.report(pruned, 0, 0.8)
    study.report(pruned, 1, 0.7)
    study.prune(pruned, "stopped")
    last = study.ask()
    study.tell(last, 0.1)
    with pytest.raises(InputError, match="trial 3 is not running here"):
        study.tell(last, 0.2)
    assert [trial.state for trial in study.trials()] == ["failed", "failed", "pruned", "complete"]
    assert study.trials()[2].value == 0.8
    assert study.trials()[2].epochs == {0: 0.8, 1: 0.7}
    assert study.best().value == 0.1  # a trial that was stopped is not compared


def test_one_storage_holds_several_studies_and_passwords_stay_in_it(
    begin: Callable[..., Study], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'with {braces}.db'}"
    for name in ("a", "b"):
        assert run_all(begin(name=name, place=url)) == POINTS
    assert (tmp_path / "with {braces}.db").is_file()
    assert public_url("postgresql://me:p@ss:w@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert public_url("postgresql://me@host/db") == "postgresql://me@host/db"
    assert public_url(url) == url


def test_a_storage_that_cannot_be_opened(begin: Callable[..., Study], tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be read as one " * 40)
    urls = (f"sqlite:///{tmp_path}/none/study.db", f"sqlite:///{tmp_path}/text.db", "nosuch://me:secret@host/db")
    for url in urls:
        with pytest.raises(
            InputError, match=r"storage .*: cannot be opened \(.*\); give a URL that Optuna reads"
        ) as no:
            begin(place=url)
        assert "secret" not in str(no.value)


def test_a_study_that_others_began(begin: Callable[..., Study], tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path / 'other.db'}"
    optuna.create_study(storage=url, study_name="knn").add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(InputError, match=r"study 'knn' in .*: was not begun by peftrec"):
        begin(place=url)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "bayes"}, "sampler: 'bayes' is unknown.* One of: tpe, random, grid"),
        ({"pruner": "media"}, "pruner: 'media' is unknown. Did you mean 'median'"),
        ({"sampler": "tpe"}, "num_trials: sampler tpe draws without end"),
        ({"num_trials": 0}, "num_trials: 0 is too small"),
    ],
)
def test_settings_that_are_none(begin: Callable[..., Study], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        begin(**settings)
