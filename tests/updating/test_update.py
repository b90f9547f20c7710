"""A run goes on with later events: what it starts from, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import peftrec.updating.run_update
from peftrec.config import InputError, RecipeError
from peftrec.data import LaterPeriod, extend, load_dataset, read_later_tables
from peftrec.evaluating import evaluate
from peftrec.models import catalogue_scores
from peftrec.publishing import load_run
from peftrec.publishing.manifest import sha256
from peftrec.publishing.run_data import load_run_timeline
from peftrec.recommender import Recommender
from peftrec.run import train
from peftrec.updating import update
from peftrec.updating.warm_start import warm_start

Updated = tuple[Path, dict[str, Any]]
QUICK = ("training.num_epochs=1",)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def started(parent: Path, later: Path) -> tuple[Any, Any, Any]:
    """The run, the model that an update starts from, and its data."""
    run = load_run(parent)
    tables = read_later_tables(run.recipe.data, later / "later.csv", later / "new_items.csv")
    timeline = extend(load_run_timeline(parent, run.recipe.data), run.recipe.data, tables, LaterPeriod())
    assert run.model is not None
    return run, warm_start(run.model, run.recipe, timeline.dataset, lambda _: None).model, timeline.dataset


def test_the_start_is_the_run(parent: Path, later: Path) -> None:
    run, model, dataset = started(parent, later)
    vectors_ND, bias_N = model.encode_catalogue()
    known = len(run.catalogue)
    assert len(vectors_ND) == len(dataset.catalogue) == known + 5
    trained_ND, trained_bias_N = run.model.encode_catalogue()
    assert torch.equal(bias_N[:known], trained_bias_N)
    assert not bias_N[known:].any()
    # Other items in a chunk of texts may round otherwise, and nothing else may differ.
    torch.testing.assert_close(vectors_ND[:known], trained_ND, rtol=0, atol=1e-6)
    for name, tensor in run.model.trained_state().items():
        if name.startswith(("item_encoder.id_vectors", "item_encoder.bias", "item_encoder.has_id")):
            continue
        assert torch.equal(model.trained_state()[name], tensor), name


def test_a_new_item_starts_where_the_run_puts_its_text(parent: Path, later: Path) -> None:
    run, model, dataset = started(parent, later)
    new = [dataset.catalogue.ids.index(name) for name in ("wine10", "tea11")]
    expected = run.model.encode_new_items([dataset.catalogue.texts[place] for place in new])
    torch.testing.assert_close(model.encode_catalogue()[0][new], expected, rtol=0, atol=1e-6)
    # Events of the first make it an item with a vector of its own; the other has none to learn from.
    assert model.item_encoder.has_id[new].tolist() == [True, False]
    assert not model.item_encoder.id_vectors[new].any()


def test_without_new_items_the_start_gives_the_same_bits(parent: Path, later: Path) -> None:
    run = load_run(parent)
    assert run.model is not None
    same = warm_start(run.model, run.recipe, load_dataset(run.recipe.data), lambda _: None).model
    for found, expected in zip(same.encode_catalogue(), run.model.encode_catalogue(), strict=True):
        assert torch.equal(found, expected)


def test_what_is_written(updated: Updated, parent: Path, later: Path) -> None:
    folder, metrics = updated
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == json.loads(json.dumps(metrics))
    told = metrics["update"]
    assert told["from_manifest_sha256"] == sha256(parent / "peftrec.json")
    assert told["events"] == {"file": "later.csv", "sha256": sha256(later / "later.csv")}
    assert (told["number"], told["num_new_users"], told["num_new_items"]) == (1, 10, 5)
    assert told["from_time"] < told["until_time"]
    assert told["from_time"].startswith("2020-09-13T")
    assert metrics["training"]["best_epoch"] > 0
    for period, cases in (("new_period", metrics["test"]["model"]["num_cases"]), ("old_period", 60)):
        change = told[period]["changes"]["ndcg@10"]
        low, high = change["interval"]
        assert told[period]["num_cases"] == cases
        assert change["change"] == pytest.approx(change["after"] - change["before"])
        assert low <= change["change"] <= high
    after = told["new_period"]["changes"]["ndcg@10"]["after"]
    assert after == pytest.approx(metrics["test"]["model"]["metrics"]["ndcg@10"])


def test_before_is_the_run_on_the_same_cases(updated: Updated, parent: Path, later: Path) -> None:
    from peftrec.measuring import measure

    run, model, dataset = started(parent, later)
    found = measure(catalogue_scores(model), run.recipe, dataset, "test").summary()
    changes = updated[1]["update"]["new_period"]["changes"]
    for metric, value in found.items():
        assert changes[metric]["before"] == pytest.approx(value, abs=1e-9)


def test_it_learns_what_is_new(updated: Updated) -> None:
    _, metrics = updated
    training = metrics["training"]
    assert training["best_metric"] > training["start"]["ndcg@10"] + 0.05
    assert metrics["test"]["model"]["metrics"]["ndcg@10"] > metrics["test"]["popularity"]["metrics"]["ndcg@10"]


def test_it_recommends_new_items_and_evaluates_to_the_same(updated: Updated) -> None:
    folder, metrics = updated
    recommender = Recommender.from_pretrained(folder)
    found = recommender.recommend(history=["wine6", "wine5"], k=20)
    assert "wine10" in {item.item_id for item in found}
    for split in ("valid", "test"):
        again = json.loads(json.dumps(evaluate(folder, split=split)))
        assert again["same_data"]
        for name in ("model", "popularity", "content_knn"):
            assert again[name] == json.loads(json.dumps(metrics[split][name]))


def test_the_run_itself_stays_as_it_was(parent: Path, later: Path, tmp_path: Path) -> None:
    before = contents(parent)
    update(parent, later / "later.csv", items=later / "new_items.csv", output=tmp_path / "new", force=True)
    assert contents(parent) == before
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_an_update_of_an_update(updated: Updated, tmp_path: Path) -> None:
    folder, first = updated
    rows = ["user_id,item_id,timestamp"]
    rows += [
        f"u{user},tea{(user + step) % 9},{1_600_090_000 + 100 * step + user}" for user in range(30) for step in range(5)
    ]
    (tmp_path / "more.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    period = LaterPeriod(replay=0.5)
    metrics = update(folder, tmp_path / "more.csv", output=tmp_path / "second", period=period, force=True)
    told = metrics["update"]
    assert (told["number"], told["replay"], told["items"]) == (2, 0.5, None)
    assert told["from_data_sha256"] == first["data_sha256"]
    assert told["old_period"]["num_cases"] == first["test"]["model"]["num_cases"]
    old, new = told["old_period"]["changes"]["ndcg@10"], first["test"]["model"]["metrics"]["ndcg@10"]
    assert old["before"] == pytest.approx(new, abs=1e-9)
    assert evaluate(tmp_path / "second")["model"] == metrics["test"]["model"]
    shutil.rmtree(tmp_path / "second" / "private" / "updates" / "1")
    with pytest.raises(InputError, match="lie in its private part, and that is not published"):
        evaluate(tmp_path / "second")


def test_two_updates_give_the_same(updated: Updated, parent: Path, later: Path, tmp_path: Path) -> None:
    folder, _ = updated
    update(parent, later / "later.csv", items=later / "new_items.csv", output=tmp_path / "again")
    for name in ("adapter_model.safetensors", "head.safetensors", "ids.safetensors", "item_vectors.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_what_gains_nothing_is_not_written(parent: Path, later: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "new", []
    given = {"items": later / "new_items.csv", "output": folder, "report": lines.append}
    useless = (
        "optimizer.head_learning_rate=1e-12",
        "optimizer.learning_rate=1e-12",
        "optimizer.id_learning_rate=1e-12",
    )
    with pytest.raises(InputError, match=r"nothing was written, as no epoch .* --force"):
        update(parent, later / "later.csv", overrides=(*QUICK, *useless), **given)
    assert not list(tmp_path.iterdir())
    metrics = update(parent, later / "later.csv", overrides=(*QUICK, *useless), force=True, **given)
    assert metrics["training"]["best_epoch"] == 0
    assert any(line.startswith("no epoch was better") for line in lines)
    assert {row["change"] for row in metrics["update"]["old_period"]["changes"].values()} == {0.0}
    _, model, _ = started(parent, later)
    torch.testing.assert_close(load_run(folder).vectors_ND, model.encode_catalogue()[0], rtol=0, atol=1e-6)


def test_a_stop_leaves_no_half_folder(
    parent: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    given = {"items": later / "new_items.csv", "output": folder, "force": True}

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(peftrec.updating.run_update, "save_model_run", stop)
        with pytest.raises(KeyboardInterrupt):
            update(parent, later / "later.csv", overrides=QUICK, **given)
    assert not folder.exists()
    update(parent, later / "later.csv", overrides=QUICK, **given)
    assert load_run(folder).model is not None
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    with pytest.raises(RecipeError, match="already holds a run"):
        update(parent, later / "later.csv", overrides=QUICK, **given)


def test_outputs_that_would_harm_the_run(parent: Path, later: Path) -> None:
    before = contents(parent)
    for output in (parent, parent / "private" / "new", parent.parent):
        with pytest.raises(RecipeError, match="--output: "):
            update(parent, later / "later.csv", output=output, overwrite=True)
    assert contents(parent) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method.rank=8",), "an update takes only training"),
        (("encoder.inputs=text",), "an update takes only training"),
        (("data.split.kind=leave_one_out",), "targets would be events that the run was trained on"),
        (("training.num_epoch=2",), "num_epoch"),
    ],
)
def test_overrides_that_do_not_belong(
    parent: Path, later: Path, tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        update(parent, later / "later.csv", output=tmp_path / "new", overrides=overrides)
    assert not list(tmp_path.iterdir())


def test_other_data_than_the_run_was_trained_on(parent: Path, later: Path, toy_data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(toy_data, moved)
    rows = (moved / "interactions.csv").read_text(encoding="utf-8").splitlines()
    (moved / "interactions.csv").write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="no longer those it was trained on"):
        update(parent, later / "later.csv", output=tmp_path / "new", overrides=(f"data.root={moved}",))


def test_runs_that_have_nothing_to_start_from(
    make_recipe: Callable[..., Any], parent: Path, later: Path, tmp_path: Path
) -> None:
    from peftrec.ensembling import ensemble

    train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "popular"))
    with pytest.raises(InputError, match=r"a baseline \(popularity\) has no weights to start from"):
        update(tmp_path / "popular", later / "later.csv", output=tmp_path / "new")
    ensemble([str(parent), str(tmp_path / "popular")], tmp_path / "both")
    with pytest.raises(InputError, match="is an ensemble; update its members one by one"):
        update(tmp_path / "both", later / "later.csv", output=tmp_path / "new")
    train(make_recipe("method.kind=adalora", *QUICK, output_dir=tmp_path / "adalora"))
    with pytest.raises(InputError, match="adalora shares out its ranks"):
        update(tmp_path / "adalora", later / "later.csv", items=later / "new_items.csv", output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_of_ids_alone(make_recipe: Callable[..., Any], later: Path, tmp_path: Path) -> None:
    ids = ("encoder.inputs=ids", "encoder.embedding_dim=16", "training.num_epochs=3")
    train(make_recipe(*ids, output_dir=tmp_path / "ids"))
    given = {"items": later / "new_items.csv", "output": tmp_path / "new", "force": True}
    metrics = update(tmp_path / "ids", later / "later.csv", **given)
    assert metrics["update"]["num_new_items"] == 5
    model = load_run(tmp_path / "new").model
    assert model is not None
    place = load_run(tmp_path / "new").catalogue.ids.index("wine10")
    assert model.item_encoder.has_id[place]
    assert model.item_encoder.id_vectors[place].any()


def test_members_of_an_ensemble_may_be_updated_alike(
    updated: Updated, later: Path, parent: Path, tmp_path: Path
) -> None:
    from peftrec.ensembling import ensemble

    folder, metrics = updated
    given = {"items": later / "new_items.csv", "force": True}
    update(parent, later / "later.csv", output=tmp_path / "other", overrides=(*QUICK, "training.seed=1"), **given)
    both = ensemble([str(folder), str(tmp_path / "other")], tmp_path / "both")
    assert both["test"]["1_run"] == metrics["test"]["model"]
    assert json.loads(json.dumps(evaluate(tmp_path / "both")["model"])) == json.loads(json.dumps(both["test"]["model"]))
    with pytest.raises(InputError, match="were trained on different data: other items"):
        ensemble([str(folder), str(parent)], tmp_path / "mixed")


def test_the_card_says_what_it_was_updated_with(updated: Updated) -> None:
    card = (updated[0] / "README.md").read_text(encoding="utf-8")
    assert "Updated once with later events, last with 522 from 2020-09-13T23:33:20" in card
    assert "Split of the data before the updates" in card
    assert "later.csv" not in card


PROFILE = "profile={method: {kind: lora, rank: 4}, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}"


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(("method.kind=side",), id="side"),
        pytest.param(("method.kind=full",), id="full"),
        pytest.param(("method.kind=prefix",), id="prefix"),
        pytest.param(("method.layers=1", "encoder.pooling=attention"), id="attention"),
        pytest.param((PROFILE,), id="profile", marks=pytest.mark.slow),
    ],
)
def test_other_ways_to_train(
    make_recipe: Callable[..., Any], later: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    train(make_recipe(*overrides, *QUICK, output_dir=folder))
    run, model, _ = started(folder, later)
    known = len(run.catalogue)
    torch.testing.assert_close(model.encode_catalogue()[0][:known], run.vectors_ND, rtol=0, atol=2e-6)
    given = {"items": later / "new_items.csv", "output": tmp_path / "new", "force": True}
    metrics = update(folder, later / "later.csv", overrides=QUICK, **given)
    assert json.loads(json.dumps(evaluate(tmp_path / "new")["model"]["metrics"])) == pytest.approx(
        metrics["test"]["model"]["metrics"]
    )
