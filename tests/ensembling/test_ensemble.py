"""Runs made into one: what it scores, that it is a run like any other, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec import InputError, RecipeError, Recommender, compare, ensemble, evaluate
from peftrec.publishing import load_run
from peftrec.publishing.export import EXPORTS, export_run
from peftrec.publishing.manifest import file_table, sealed
from peftrec.retrieval.fusion import reciprocal_ranks, standardised
from peftrec.run import train

Folders = dict[str, Path]


@pytest.fixture(scope="module")
def runs(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Text, ids, and both baselines, on the same data; read only."""
    root = tmp_path_factory.mktemp("members")
    settings = {
        "text": ("method.layers=1", "training.num_epochs=1"),
        "ids": ("encoder.inputs=ids", "encoder.embedding_dim=16", "training.num_epochs=3"),
        "popular": ("baseline.kind=popularity",),
        "knn": ("baseline.kind=content_knn",),
    }
    for name, overrides in settings.items():
        train(make_recipe(*overrides, output_dir=root / name))
    return {name: root / name for name in settings}


@pytest.fixture(scope="module")
def both(runs: Folders, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An ensemble of text and ids, and what was returned; read only."""
    folder = tmp_path_factory.mktemp("both") / "run"
    return folder, ensemble([runs["text"], runs["ids"]], folder, weights=[2.0, 1.0])


def rows(*histories: list[int]) -> Any:
    width = max(map(len, histories))
    return np.array([[-1] * (width - len(history)) + history for history in histories])


HISTORIES = rows([0, 1, 2], [12], [30, 31, 32, 33], [20, 25])


@pytest.mark.parametrize("by", ["score", "rank"])
def test_scores_are_the_weighted_mean_of_the_members_parts(runs: Folders, by: Any, tmp_path: Path) -> None:
    names = ["text", "ids", "popular", "knn"]
    weights = [1.0, 2.0, 3.0, 0.0]
    ensemble([runs[name] for name in names], tmp_path / "run", by=by, weights=weights)
    found = load_run(tmp_path / "run").scores(HISTORIES)
    part = {"score": standardised, "rank": reciprocal_ranks}[by]
    parts = [
        part(load_run(runs[name]).scores(HISTORIES)) * weight / 6 for name, weight in zip(names, weights, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(parts).sum(0))


def test_it_is_a_run_like_any_other(both: tuple[Path, dict[str, Any]], runs: Folders) -> None:
    folder, metrics = both
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(metrics))
    for split in ("valid", "test"):
        again = json.loads(json.dumps(evaluate(folder, split=split)))
        assert again["same_data"]
        for name in ("model", "1_text", "2_ids", "popularity", "content_knn"):
            assert again[name] == stored[split][name]
        for place, name in enumerate(("text", "ids"), start=1):
            own = json.loads((runs[name] / "metrics.json").read_text())
            assert stored[split][f"{place}_{name}"] == own[split]["model"]
    tests = {row.test.metric: row.test for row in compare(folder, runs["text"]).tests}
    assert tests["ndcg@10"].first == pytest.approx(stored["test"]["model"]["metrics"]["ndcg@10"])
    assert tests["ndcg@10"].second == pytest.approx(stored["test"]["1_text"]["metrics"]["ndcg@10"])
    assert stored["test"]["model"]["metrics"] != stored["test"]["1_text"]["metrics"]
    assert stored["ensemble"] == {"by": "score", "weights": {"1_text": 2.0, "2_ids": 1.0}, "chosen_on": None}
    parts = [row["part"] for row in stored["parameters"]]
    assert parts == ["1_text lm", "1_text head", "1_text user", "2_ids head", "2_ids user", "2_ids ids"]
    card = (folder / "README.md").read_text()
    assert "the weighted mean of the standardised scores of its members" in card
    assert "`1_text` (2), `2_ids` (1)" in card


def test_it_needs_nothing_but_its_folder(both: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    moved = Path(shutil.copytree(both[0], tmp_path / "moved", ignore=shutil.ignore_patterns("private")))
    assert not list((both[0] / "members").rglob("private"))
    one, other = load_run(both[0]).scores(HISTORIES), load_run(moved).scores(HISTORIES)
    assert torch.equal(one, other)
    # Names of members are those of their folders; where those lay is told to nobody.
    assert b"tmp" not in (moved / "ensemble.json").read_bytes()


def test_it_recommends(both: tuple[Path, dict[str, Any]], runs: Folders) -> None:
    recommender = Recommender.from_pretrained(both[0])
    found = recommender.recommend(["wine0", "wine1"], k=5)
    scores = load_run(both[0]).scores(rows([0, 1]))[0]
    scores[:2] = -torch.inf
    assert [entry.item_id for entry in found] == [recommender.catalogue.ids[i] for i in scores.topk(5).indices]
    popular = Recommender.from_pretrained(runs["popular"]).recommend([], k=5)
    assert [entry.item_id for entry in recommender.recommend([], k=5)] == [entry.item_id for entry in popular]
    with pytest.raises(InputError, match="this run is an ensemble; it cannot take in new items"):
        recommender.add_items(["new"], ["small red wine"])
    with pytest.raises(InputError, match="reads no users' texts"):
        recommender.recommend(["wine0"], attributes="31 years")
    with pytest.raises(InputError, match="is an ensemble; export its members"):
        export_run(both[0], both[0].parent / "merged", EXPORTS.load("merged")())
    with pytest.raises(InputError, match="is an ensemble; export its members"):
        export_run(both[0], both[0].parent / "index", EXPORTS.load("faiss")())


def test_members_that_read_users_get_to_know_them(
    make_recipe: Callable[..., Any], toy_data: Path, tmp_path: Path
) -> None:
    users = [f"u{number},{'red' if number % 2 else 'soft'}" for number in range(60)]
    shutil.copytree(toy_data, tmp_path / "data")
    (tmp_path / "data" / "users.csv").write_text("\n".join(["user_id,taste", *users]) + "\n")
    told = ("data.users=users.csv", "data.user_template='{taste}'", "training.num_epochs=1")
    profile = ("profile.fusion=add", "profile.max_tokens=56", "profile.method=null")
    for seed in (0, 1):
        recipe = make_recipe(*told, *profile, f"training.seed={seed}", output_dir=tmp_path / f"s{seed}",
                             data=tmp_path / "data")  # fmt: skip
        train(recipe)
    metrics = ensemble([tmp_path / "s0", tmp_path / "s1"], tmp_path / "run")
    assert (
        json.loads(json.dumps(evaluate(tmp_path / "run")))["model"] == json.loads(json.dumps(metrics))["test"]["model"]
    )
    for place, seed in enumerate((0, 1), start=1):
        own = json.loads((tmp_path / f"s{seed}" / "metrics.json").read_text())
        assert metrics["test"][f"{place}_s{seed}"]["metrics"] == own["test"]["model"]["metrics"]
    recommender = Recommender.from_pretrained(tmp_path / "run")
    lists = [[entry.score for entry in recommender.recommend(["wine0"], attributes=a)] for a in ("red", "soft", "red")]
    assert lists[0] == lists[2] != lists[1]


def test_weights_chosen_on_validation(runs: Folders, tmp_path: Path) -> None:
    lines: list[str] = []
    members = [runs["popular"], runs["ids"]]
    metrics = ensemble(members, tmp_path / "run", weights="auto", report=lines.append)
    chosen = metrics["ensemble"]["chosen_on"]
    assert (chosen["split"], chosen["metric"]) == ("valid", "ndcg@10")
    assert len(chosen["tried"]) == 11
    weights = list(metrics["ensemble"]["weights"].values())
    best = max(row["ndcg@10"] for row in chosen["tried"])
    assert (
        next(row["weights"] for row in chosen["tried"] if row["ndcg@10"] == pytest.approx(best, abs=1e-12)) == weights
    )
    assert metrics["valid"]["model"]["metrics"]["ndcg@10"] == pytest.approx(best)
    assert weights[1] > weights[0]
    assert any(line.startswith("weights that are best on validation: ") for line in lines)
    # What a row of the grid is said to reach is what those weights reach, in chunks of any size.
    row = chosen["tried"][3]
    again = ensemble(members, tmp_path / "again", weights=row["weights"], overrides=["evaluation.batch_users=7"])
    assert again["valid"]["model"]["metrics"]["ndcg@10"] == pytest.approx(row["ndcg@10"])
    small = ensemble(members, tmp_path / "small", weights="auto", overrides=["evaluation.batch_users=7"])
    assert small["ensemble"]["weights"] == metrics["ensemble"]["weights"]


def test_choosing_weights_never_reads_the_test_cases(
    runs: Folders, toy_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peftrec.ensembling as module

    seen = []
    whole = module.evaluate_cases

    def spy(scores: Any, cases: Any, *rest: Any, **settings: Any) -> Any:
        seen.extend(zip(cases.users.tolist(), cases.targets.tolist(), strict=True))
        return whole(scores, cases, *rest, **settings)

    monkeypatch.setattr(module, "evaluate_cases", spy)
    ensemble([runs["popular"], runs["knn"]], tmp_path / "run", weights="auto")
    valid, test = toy_dataset.split.valid, toy_dataset.split.test
    pairs = set(zip(valid.users.tolist(), valid.targets.tolist(), strict=True))
    assert set(seen) == pairs
    assert pairs != set(zip(test.users.tolist(), test.targets.tolist(), strict=True))


def test_an_ensemble_may_be_a_member(both: tuple[Path, dict[str, Any]], runs: Folders, tmp_path: Path) -> None:
    ensemble([both[0], runs["knn"]], tmp_path / "run", by="rank")
    inner = reciprocal_ranks(load_run(both[0]).scores(HISTORIES))
    outer = reciprocal_ranks(load_run(runs["knn"]).scores(HISTORIES))
    torch.testing.assert_close(load_run(tmp_path / "run").scores(HISTORIES), (inner + outer) / 2)


class TestRefused:
    def test_too_few_or_the_same(self, runs: Folders, tmp_path: Path) -> None:
        text = runs["text"]
        with pytest.raises(InputError, match="two members or more, got 1"):
            ensemble([text], tmp_path / "run")
        with pytest.raises(InputError, match="text: is named twice"):
            ensemble([text, runs["ids"], text.parent / "ids" / ".." / "text"], tmp_path / "run")
        with pytest.raises(InputError, match="gone: there is no such run folder"):
            ensemble([text, tmp_path / "gone"], tmp_path / "run")
        with pytest.raises(InputError, match=r"is not a run folder \(peftrec\.json is missing\)"):
            ensemble([text, tmp_path], tmp_path / "run")
        assert not list(tmp_path.iterdir())

    def test_weights(self, runs: Folders, tmp_path: Path) -> None:
        members = [runs["text"], runs["ids"]]
        for weights, message in (([1.0], "1 weights for 2 runs"), ([1.0, float("nan")], "weight 2 is nan")):
            with pytest.raises(InputError, match=message):
                ensemble(members, tmp_path / "run", weights=weights)
        assert not list(tmp_path.iterdir())

    def test_another_split(self, runs: Folders, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
        train(make_recipe("baseline.kind=popularity", "data.split.kind=global_time", output_dir=tmp_path / "other"))
        with pytest.raises(InputError, match=r"text and .*other were split differently .*leave_one_out.*global_time"):
            ensemble([runs["text"], tmp_path / "other"], tmp_path / "run")

    @pytest.mark.parametrize(
        ("file", "change", "message"),
        [
            ("items.csv", lambda text: text + "extra,a new thing,tea\n", r"other items \(40 and 41\)"),
            ("items.csv", lambda text: text.replace("small red wine", "small green wine"), "with other texts"),
            ("interactions.csv", lambda text: text + "u0,tea1,1900000000\n", "the same items, but other events, users"),
        ],
    )
    def test_other_data(
        self, runs: Folders, make_recipe: Callable[..., Any], write_toy: Callable[[Path], Path], tmp_path: Path,
        file: str, change: Callable[[str], str], message: str,
    ) -> None:  # fmt: skip
        root = write_toy(tmp_path / "data")
        (root / file).write_text(change((root / file).read_text()))
        train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "other", data=root))
        with pytest.raises(InputError, match=f"text and .*other were trained on different data: .*{message}"):
            ensemble([runs["text"], tmp_path / "other"], tmp_path / "run")
        with pytest.raises(InputError, match=r"does not hold the data that .* was trained on"):
            ensemble([runs["text"], runs["ids"]], tmp_path / "run", overrides=[f"data.root={root}"])
        assert not (tmp_path / "run").exists()
        assert not (tmp_path / "run.partial").exists()

    def test_places(self, both: tuple[Path, dict[str, Any]], runs: Folders, tmp_path: Path) -> None:
        members = [runs["popular"], runs["knn"]]
        folder = Path(shutil.copytree(both[0], tmp_path / "run"))
        with pytest.raises(RecipeError, match="already holds a run"):
            ensemble(members, folder)
        with pytest.raises(RecipeError, match=r"takes only data\.\* and evaluation\.\*"):
            ensemble(members, tmp_path / "new", overrides=["method.rank=2"])
        with pytest.raises(InputError, match="is a member and where the ensemble shall lie"):
            ensemble([folder, runs["knn"]], folder, overwrite=True)
        ensemble(members, folder, overwrite=True)
        assert set(load_run(folder).member_scores()) == {"1_popular", "2_knn"}
        (tmp_path / "stopped.partial" / "private" / "checkpoints").mkdir(parents=True)
        with pytest.raises(RecipeError, match="holds a stopped run"):
            ensemble(members, tmp_path / "stopped")
        assert (tmp_path / "stopped.partial").is_dir()

    def test_a_member_without_metrics(self, runs: Folders, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(runs["popular"], tmp_path / "copy"))
        (copy / "metrics.json").write_text("{}")
        manifest = json.loads((copy / "peftrec.json").read_text())
        (copy / "peftrec.json").write_text(json.dumps(sealed({**manifest, "files": file_table(copy)})))
        with pytest.raises(InputError, match=r"metrics\.json: cannot be read"):
            ensemble([runs["text"], copy], tmp_path / "run")


class TestDamaged:
    @pytest.fixture
    def copy(self, both: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
        return Path(shutil.copytree(both[0], tmp_path / "copy"))

    @staticmethod
    def sign(folder: Path) -> None:
        manifest = json.loads((folder / "peftrec.json").read_text())
        (folder / "peftrec.json").write_text(json.dumps(sealed({**manifest, "files": file_table(folder)})))

    @pytest.mark.parametrize("name", ["ensemble.json", "members/1_text/head.safetensors", "members/2_ids/peftrec.json"])
    def test_every_change_is_seen(self, copy: Path, name: str) -> None:
        path = copy / name
        whole = path.read_bytes()
        path.write_bytes(whole + b" ")
        with pytest.raises(InputError, match="truncated or was edited"):
            load_run(copy)
        path.unlink()
        with pytest.raises(InputError, match="is missing from the run folder"):
            load_run(copy)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"score"', '"sum"', "is damaged"),
            ("2.0", "NaN", "is damaged"),
            ("1_text", "../1_text", "is not listed"),
            ('"members"', '"parts"', "is damaged"),
            ('"members": [', '"members": ' + "[" * 100_000, r"ensemble\.json: is damaged \(nested too deep"),
        ],
    )
    def test_an_edited_description_is_refused(self, copy: Path, old: str, new: str, message: str) -> None:
        path = copy / "ensemble.json"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        self.sign(copy)
        with pytest.raises(InputError, match=message):
            load_run(copy)

    def test_members_must_have_the_items_of_the_ensemble(self, copy: Path) -> None:
        path = copy / "items.jsonl"
        path.write_text(path.read_text().replace('"wine0"', '"wineX"'))
        self.sign(copy)
        with pytest.raises(InputError, match="holds other items than the members"):
            load_run(copy)
