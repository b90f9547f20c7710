"""From tables to a run folder and back: what is written, what is refused, and that nothing is left half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftrec.fitting
import peftrec.run
from peftrec.config import InputError, RecipeError
from peftrec.data import TrainingWindows, load_dataset
from peftrec.evaluating import evaluate
from peftrec.launch import Ranks
from peftrec.publishing import load_run
from peftrec.run import train

SHORT = ("training.num_epochs=1",)


@pytest.fixture(scope="module")
def finished(
    make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[str]]:
    """A run on the toy data long enough to learn, its metrics, and the lines it reported."""
    folder, lines = tmp_path_factory.mktemp("finished") / "run", []
    metrics = train(make_recipe("training.num_epochs=4", output_dir=folder), report=lines.append)
    return folder, metrics, lines


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_learns(finished: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, metrics, lines = finished
    losses = [row["loss"] for row in metrics["training"]["epochs"]]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.6 * losses[0]
    for split in ("valid", "test"):
        ndcg = {name: metrics[split][name]["metrics"]["ndcg@10"] for name in ("model", "popularity", "content_knn")}
        assert ndcg["model"] > ndcg["content_knn"] > ndcg["popularity"] + 0.1, ndcg
        assert set(metrics[split]["model"]["metrics"]) == {"hr@10", "ndcg@10", "mrr@10"}
    assert metrics["valid"]["leaks"]
    assert any("texts: 40 items" in line for line in lines)
    assert any("lora for items changes attention.self.query (layers 0-2), attention.self.key" in line for line in lines)
    assert metrics["texts"]["num_texts"] == 40
    assert 40 < metrics["texts"]["num_tokens"] < 40 * 16
    assert metrics["texts"]["num_cut"] == 0
    assert lines[-1].startswith("saved to ")
    assert [row["part"] for row in metrics["parameters"]] == ["lm", "head", "user"]


def test_what_is_returned_is_what_is_stored_and_evaluation_gives_it_again(
    finished: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, metrics, _ = finished
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(metrics))
    for split in ("valid", "test"):
        again = json.loads(json.dumps(evaluate(folder, split=split)))
        for name in ("model", "popularity", "content_knn"):
            assert again[name] == stored[split][name]
    assert evaluate(load_run(folder))["model"] == metrics["test"]["model"]


def test_the_best_epoch_is_the_one_that_is_kept(finished: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, metrics, _ = finished
    training = metrics["training"]
    best = max(row["ndcg@10"] for row in training["epochs"])
    assert training["best_metric"] == best == training["epochs"][training["best_epoch"] - 1]["ndcg@10"]
    assert metrics["valid"]["model"]["metrics"]["ndcg@10"] == pytest.approx(best, abs=1e-12)


def test_evaluation_takes_other_rules_and_other_roots(
    finished: tuple[Path, dict[str, Any], list[str]], tmp_path: Path, write_toy: Callable[[Path], Path]
) -> None:
    folder, metrics, _ = finished
    found = evaluate(folder, overrides=["evaluation.ks=[1,5]", f"data.root={write_toy(tmp_path / 'copy')}"])
    assert set(found["model"]["metrics"]) == {f"{m}@{k}" for m in ("hr", "ndcg", "mrr") for k in (1, 5)}
    with_history = evaluate(folder, overrides=["evaluation.exclude_history=false"])
    assert with_history["model"]["metrics"]["ndcg@10"] < metrics["test"]["model"]["metrics"]["ndcg@10"]
    with pytest.raises(RecipeError, match=r"takes only data\.\* and evaluation\.\*"):
        evaluate(folder, overrides=["method.rank=3"])
    with pytest.raises(RecipeError, match=r"another data\.split\.kind targets would be events that the run was"):
        evaluate(folder, overrides=["data.split.kind=global_time"])
    with pytest.raises(RecipeError, match=r"another data\.cleaning\.min_user_events targets would be"):
        evaluate(folder, overrides=["data.cleaning.min_user_events=3"])
    with pytest.raises(RecipeError, match="split: 'tset' is not one of valid, test"):
        evaluate(folder, split="tset")


def test_other_items_are_refused(
    finished: tuple[Path, dict[str, Any], list[str]], tmp_path: Path, write_toy: Callable[[Path], Path]
) -> None:
    root = write_toy(tmp_path / "changed")
    lines = (root / "items.csv").read_text().splitlines()
    override = [f"data.root={root}"]
    (root / "items.csv").write_text("\n".join([*lines, "extra,a new thing,tea"]) + "\n")
    with pytest.raises(InputError, match="was trained on 40 items, the data of its recipe now has 41"):
        evaluate(finished[0], overrides=override)
    (root / "items.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    with pytest.raises(InputError, match="not the same ones in the same order"):
        evaluate(finished[0], overrides=override)


def test_texts_that_changed_are_refused(
    finished: tuple[Path, dict[str, Any], list[str]], tmp_path: Path, write_toy: Callable[[Path], Path]
) -> None:
    """Stored vectors are of the stored texts: an evaluation on others would say nothing about them."""
    root = write_toy(tmp_path / "changed")
    text = (root / "items.csv").read_text()
    (root / "items.csv").write_text(text.replace("small red wine", "small green wine"))
    with pytest.raises(InputError, match=r"item 'wine0' .*text"):
        evaluate(finished[0], overrides=[f"data.root={root}"])


def test_references_are_of_the_data_at_hand(
    finished: tuple[Path, dict[str, Any], list[str]],
    tmp_path: Path,
    write_toy: Callable[[Path], Path],
    make_recipe: Callable[..., Any],
) -> None:
    """Other events with the same items: the references are fitted to them, the run's own fits and files stay."""
    kept = contents(finished[0])
    root = write_toy(tmp_path / "fewer")
    lines = (root / "interactions.csv").read_text().splitlines()
    (root / "interactions.csv").write_text("\n".join(line for line in lines if not line.startswith("u1")) + "\n")
    found = evaluate(finished[0], overrides=[f"data.root={root}"])
    assert found["model"]["num_cases"] == found["popularity"]["num_cases"] < 60
    fitted = train(make_recipe("baseline.kind=popularity", f"data.root={root}", output_dir=tmp_path / "popularity"))
    assert found["popularity"]["metrics"] == fitted["test"]["model"]["metrics"]
    assert not found["same_data"]
    assert found["leaks"].startswith("These are NOT the events that the run was trained on")
    assert contents(finished[0]) == kept
    own = evaluate(finished[0])
    assert own["same_data"]
    assert "NOT the events" not in own["leaks"]


@pytest.mark.parametrize(("error", "told"), [(errno.EACCES, False), (errno.EROFS, False), (errno.ENOSPC, True)])
def test_a_run_that_cannot_be_written_to_is_evaluated(
    finished: tuple[Path, dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch, error: int, told: bool
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("peftrec.measuring.write_per_user", refuse)
    with pytest.raises(OSError, match=os.strerror(error)) if told else contextlib.nullcontext():
        assert evaluate(finished[0])["model"] == finished[1]["test"]["model"]


def test_a_taken_folder_is_refused_and_replaced_only_when_told(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recipe = make_recipe("baseline.kind=popularity", output_dir=folder)
    train(recipe)
    before = contents(folder)
    with pytest.raises(
        RecipeError, match=r"output_dir: .*run already holds a run; choose another, or pass --overwrite"
    ):
        train(recipe)
    assert contents(folder) == before
    train(make_recipe("baseline.kind=content_knn", output_dir=folder), overwrite=True)
    assert load_run(folder).recipe.baseline.kind == "content_knn"  # type: ignore[union-attr]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_what_is_no_run_is_never_overwritten(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    recipe = make_recipe("baseline.kind=popularity", output_dir=folder)
    with pytest.raises(RecipeError, match="holds files that are no run of peftrec"):
        train(recipe)
    with pytest.raises(RecipeError, match="holds files that are no run of peftrec; choose another"):
        train(recipe, overwrite=True)
    assert contents(folder) == {"thesis.txt": b"years of work"}
    with pytest.raises(RecipeError, match="is a file"):
        train(make_recipe("baseline.kind=popularity", output_dir=folder / "thesis.txt"))
    (tmp_path / "empty").mkdir()
    train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "empty"))
    assert load_run(tmp_path / "empty").baseline is not None


@pytest.mark.parametrize("name", ["run.partial"])
def test_neighbours_of_the_output_folder_are_not_deleted(
    name: str, make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    """`<output_dir>.partial` is ours only if we made it."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match=rf"{name} is needed while the run is written, but holds other files"):
        train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "run"))
    assert contents(tmp_path) == {f"{name}/notes.txt": b"mine"}


def test_a_copy_beside_the_output_folder_is_left_alone(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    recipe = make_recipe("baseline.kind=popularity", output_dir=tmp_path / "run")
    train(recipe)
    (tmp_path / "run").rename(tmp_path / "run.old")
    kept = contents(tmp_path / "run.old")
    train(recipe)
    train(recipe, overwrite=True)
    assert contents(tmp_path / "run.old") == kept


def test_an_output_folder_needs_a_name(
    make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (".", "..", "/"):
        with pytest.raises(RecipeError, match="is no folder of its own"):
            train(make_recipe("baseline.kind=popularity", output_dir=Path(name)))


class KilledError(Exception):
    """Stands for a kill."""


def fail_in(monkeypatch: pytest.MonkeyPatch, name: str, call: int = 1) -> None:
    module = peftrec.run if hasattr(peftrec.run, name) else peftrec.fitting
    real, calls = getattr(module, name), []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise KilledError
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize(
    "place", ["load_dataset", "build", "make_trainer", "measure_all", "fit_references", "save_model_run"]
)
def test_a_failing_run_leaves_the_old_one_whole(
    place: str, make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    train(make_recipe("baseline.kind=popularity", output_dir=folder))
    before = contents(folder)
    fail_in(monkeypatch, place)
    for overwrite, target in ((True, folder), (False, tmp_path / "fresh")):
        monkeypatch.undo()
        fail_in(monkeypatch, place)
        with pytest.raises(KilledError):
            train(make_recipe(*SHORT, output_dir=target), overwrite=overwrite)
    assert contents(folder) == before
    assert not (tmp_path / "fresh").exists()
    monkeypatch.undo()
    assert load_run(folder).baseline is not None


def test_wrong_data_and_backbones_leave_nothing(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    for overrides in (
        (f"data.root={tmp_path}/gone",),
        ("encoder.backbone=nobody/no-such-model",),
        ("method.rank=999",),
        ("method.layers=9",),
        ("method.targets=[qery]",),
        ("encoder.embedding_dim=64",),
        ("user.num_heads=5",),
        ("loss.kind=in_batch_softmax", "training.encoder_interval=2"),
        ("loss.kind=squared_error", "data.ratings=true"),
        ("encoder.inputs=ids", "encoder.embedding_dim=16", "encoder.backbone=nobody/no-such-model"),
        ("baseline.kind=popularity", "encoder.backbone=nobody/no-such-model"),
        ("baseline.kind=content_knn", "encoder.backbone=nobody/no-such-model"),
    ):
        folder = tmp_path / "run"
        with pytest.raises(InputError) as caught:
            train(make_recipe(*SHORT, *overrides, output_dir=folder))
        assert "\n" not in str(caught.value)
        assert not folder.exists(), overrides
        assert not (tmp_path / "run.partial").exists(), overrides


def test_a_stopped_run_is_resumed_to_the_same_folder(
    make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("training.num_epochs=3", "method.layers=1", "method.dropout=0.2", "user.dropout=0.2")
    whole = train(make_recipe(*overrides, output_dir=tmp_path / "whole"))
    recipe = make_recipe(*overrides, output_dir=tmp_path / "stopped")
    with pytest.raises(RecipeError, match=r"stopped\.partial: there is no stopped run to resume"):
        train(recipe, resume=True)
    fail_in(monkeypatch, "measure", call=3)
    with pytest.raises(KilledError):
        train(recipe)
    monkeypatch.undo()
    assert not (tmp_path / "stopped").exists()
    resumed = train(recipe, resume=True)
    assert resumed["test"] == whole["test"]
    for name in ("adapter_model.safetensors", "head.safetensors", "item_vectors.safetensors", "probes.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_of_another_recipe_is_not_resumed(
    make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_in(monkeypatch, "measure", call=3)
    with pytest.raises(KilledError):
        train(make_recipe("training.num_epochs=3", output_dir=tmp_path / "run"))
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"another recipe or other data: method\.rank \(then 4, now 2\)"):
        train(make_recipe("training.num_epochs=3", "method.rank=2", output_dir=tmp_path / "run"), resume=True)


def test_a_run_whose_data_file_has_changed_is_not_resumed(
    make_recipe: Callable[..., Any],
    write_toy: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = make_recipe("training.num_epochs=3", output_dir=tmp_path / "run", data=write_toy(tmp_path / "data"))
    fail_in(monkeypatch, "measure", call=3)
    with pytest.raises(KilledError):
        train(recipe)
    monkeypatch.undo()
    events = tmp_path / "data" / "interactions.csv"
    whole = events.read_text()
    events.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"another recipe or other data: data_sha256 \(then '\w+', now '\w+'\)"):
        train(recipe, resume=True)
    events.write_text(whole)
    assert len(train(recipe, resume=True)["training"]["epochs"]) == 3


def test_a_stopped_run_is_not_begun_again_unasked(
    make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("training.num_epochs=2", output_dir=tmp_path / "run")
    fail_in(monkeypatch, "measure", call=3)
    with pytest.raises(KilledError):
        train(recipe)
    monkeypatch.undo()
    kept = contents(tmp_path / "run.partial")
    with pytest.raises(RecipeError, match=r"run\.partial holds a stopped run; pass --resume to go on, or --overwrite"):
        train(recipe)
    assert contents(tmp_path / "run.partial") == kept
    train(recipe, overwrite=True)
    assert load_run(tmp_path / "run").model is not None


def test_repeats_are_no_targets_where_the_recipe_says_so(
    make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(
        "peftrec.fitting.TrainingWindows",
        lambda *arguments, **keywords: made.append(keywords) or TrainingWindows(*arguments, **keywords),
    )
    for number, override in enumerate(("loss.skip_repeats=true", "loss.skip_repeats=false")):
        train(make_recipe(*SHORT, override, output_dir=tmp_path / str(number)))
    assert [keywords["skip_repeats"] for keywords in made] == [True, False]


def test_ratings_are_learned_from_the_tables(
    make_recipe: Callable[..., Any], write_toy: Callable[[Path], Path], tmp_path: Path
) -> None:
    """With a scale that is fixed: a loaded run has it again."""
    data = write_toy(tmp_path / "data")
    header, *rows = (data / "interactions.csv").read_text().splitlines()
    rated = [f"{row},{1 + len(row) % 5}" for row in rows]
    (data / "interactions.csv").write_text("\n".join([f"{header},stars", *rated]) + "\n")
    overrides = ("loss.kind=squared_error", "data.ratings=true", "data.columns.rating=stars")
    scorer = ("scorer.kind=dot", "scorer.start_scale=2.0", "scorer.learn_scale=false")
    metrics = train(make_recipe(*SHORT, *overrides, *scorer, output_dir=tmp_path / "run", data=data))
    assert evaluate(tmp_path / "run")["model"] == metrics["test"]["model"]
    model = load_run(tmp_path / "run").model
    assert model is not None
    assert model.scale().item() == pytest.approx(2.0)
    with pytest.raises(InputError, match=r"no column 'rating' \(named by data\.columns\.rating\)"):
        train(make_recipe(*SHORT, *overrides[:2], output_dir=tmp_path / "other", data=data))
    assert not (tmp_path / "other.partial").exists()


def test_the_same_recipe_gives_the_same_run(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    overrides = (*SHORT, "encoder.inputs=text+ids", "encoder.dropout=0.2", "user.dropout=0.2")
    for name in ("a", "b"):
        train(make_recipe(*overrides, output_dir=tmp_path / name))
    for name in ("adapter_model.safetensors", "head.safetensors", "ids.safetensors", "item_vectors.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_best_epoch_is_picked_by_any_rank_metric(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    """It is measured beside the usual ones, and evaluation gives it again."""
    metrics = train(make_recipe(*SHORT, "training.metric=recall@10", output_dir=tmp_path / "run"))
    found = metrics["valid"]["model"]["metrics"]
    assert set(found) == {"hr@10", "ndcg@10", "mrr@10", "recall@10"}
    assert found["recall@10"] == found["hr@10"] == metrics["training"]["best_metric"]
    assert evaluate(tmp_path / "run")["model"] == metrics["test"]["model"]


@pytest.mark.parametrize("kind", ["popularity", "content_knn"])
def test_a_baseline_run_equals_the_reference_beside_it(
    kind: str, make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    metrics = train(make_recipe(f"baseline.kind={kind}", output_dir=tmp_path / "run"))
    assert metrics["test"]["model"]["metrics"] == metrics["test"][kind]["metrics"]
    assert evaluate(tmp_path / "run")["model"] == metrics["test"]["model"]


def test_a_data_set_can_be_handed_in(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    recipe = make_recipe("baseline.kind=popularity", output_dir=tmp_path / "run")
    dataset = load_dataset(recipe.data)
    metrics = train(recipe, dataset=dataset)
    assert evaluate(tmp_path / "run", dataset=dataset)["model"] == metrics["test"]["model"]


@pytest.mark.slow
def test_the_real_minilm_from_tables_to_lists(make_recipe: Callable[..., Any], minilm: str, tmp_path: Path) -> None:
    recipe = make_recipe(f"encoder.backbone={minilm}", "method.layers=2", output_dir=tmp_path / "run")
    metrics = train(recipe)
    assert metrics["test"]["model"]["metrics"]["ndcg@10"] > metrics["test"]["popularity"]["metrics"]["ndcg@10"]
    for path in (tmp_path / "run").glob("*"):
        if path.is_file():
            assert b"site-packages" not in path.read_bytes(), path
    assert json.loads((tmp_path / "run" / "adapter_config.json").read_text())["base_model_name_or_path"] == minilm
    assert evaluate(tmp_path / "run")["model"] == metrics["test"]["model"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("evaluation.category=genre", r"no column 'genre' \(named by evaluation\.category\)"),
        ("data.item_groups=[maker]", r"no column 'maker' \(named by data\.item_groups\)"),
        ("evaluation.impressions=none.tsv", r"no such file: .*none\.tsv \(evaluation\.impressions names it\)"),
    ],
)
def test_rules_that_cannot_be_kept_are_told_before_the_training(
    make_recipe: Callable[..., Any], tmp_path: Path, rule: str, message: str
) -> None:
    lines: list[str] = []
    with pytest.raises(InputError, match=message):
        train(make_recipe(rule, output_dir=tmp_path / "run"), report=lines.append)
    assert lines == []
    assert list(tmp_path.iterdir()) == []


def test_another_number_of_processes_than_the_recipe_is_made_for_is_refused(
    make_recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"training\.processes is 2, but 1 were launched\. Launch as many .*--cpu starts one"
    ):
        train(make_recipe("training.processes=2", output_dir=tmp_path / "run"))
    monkeypatch.setattr("peftrec.run.launched", lambda _: Ranks(1, 2))
    with pytest.raises(InputError, match=r"training\.processes is 1, but 2 were launched"):
        train(make_recipe("training.processes=1", output_dir=tmp_path / "run"))
    with pytest.raises(InputError, match="2 processes were launched, but a baseline is fitted in one"):
        train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "run"))
    assert not list(tmp_path.iterdir())
