from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

import peftrec
from peftrec import compare, ensemble
from peftrec.cli import comparison_table, main
from peftrec.evaluation import holm
from peftrec.publishing import read_arm


@pytest.fixture(scope="module")
def other(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second run on the same data with another seed; read only."""
    folder = tmp_path_factory.mktemp("other")
    assert main(["train", str(write_recipe(folder)), "training.num_epochs=1", "training.seed=5"]) == 0
    return folder / "run"


def test_two_runs(trained: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["compare", str(trained), str(other), "--split", "valid", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    files = [(run / "metrics.json").read_text(encoding="utf-8") for run in (trained, other)]
    stored = [json.loads(text)["valid"]["model"] for text in files]
    assert [test["metric"] for test in found["tests"]] == list(stored[0]["metrics"])
    assert (found["first"], found["others"], found["catalogue"]) == (str(trained), [str(other)], "full")
    np.testing.assert_allclose(
        [test["adjusted_p_value"] for test in found["tests"]], holm([test["p_value"] for test in found["tests"]])
    )
    for test in found["tests"]:
        assert test["first"] == pytest.approx(stored[0]["metrics"][test["metric"]])
        assert test["second"] == pytest.approx(stored[1]["metrics"][test["metric"]])
        assert test["difference"] == pytest.approx(test["first"] - test["second"])
        assert test["num_users"] == stored[0]["num_cases"]
        assert test["low"] <= test["difference"] <= test["high"]
        assert 0 < test["p_value"] <= 1
    assert main(["compare", str(trained), str(other)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("HR@10", "NDCG@10", "95% interval", "p (Holm)"))
    assert "test: A is compared with B, on the same " in shown
    assert f"A  {trained}\nB  {other}\n" in shown
    assert "A, B are single runs: interval and p tell nothing of other seeds of them." in shown


def test_a_run_with_itself(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    capsys.readouterr()
    assert main(["compare", str(trained), str(copy), "--json"]) == 0
    for test in json.loads(capsys.readouterr().out)["tests"]:
        assert (test["difference"], test["p_value"]) == (0.0, 1.0)
    assert main(["compare", str(trained), f"{copy},{trained.parent / 'run'}"]) == 1  # of one seed, seen first
    assert "are both of seed" in capsys.readouterr().err
    assert main(["compare", str(trained), str(trained)]) == 1
    assert f"{trained}: is on both sides" in capsys.readouterr().err
    assert main(["compare", str(trained), str(copy), str(copy)]) == 1
    assert f"{copy}: is named twice; name each run that {trained} is compared with once" in capsys.readouterr().err


def test_what_else_was_measured_since_changes_no_test(
    trained: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = [shutil.copytree(run, tmp_path / str(number)) for number, run in enumerate((trained, other))]
    before = compare(*copies)
    for copy in copies:
        path = copy / "private" / "test_model.parquet"
        frame = pl.read_parquet(path)
        more = {"recall@10": frame["hr@10"], "calibration@10": frame["mrr@10"]}
        frame.with_columns(**more).write_parquet(path)
    assert compare(*copies) == before
    assert [row.test.metric for row in before.tests] == ["hr@10", "ndcg@10", "mrr@10"]
    capsys.readouterr()
    assert main(["compare", *map(str, copies), "--metric", "calibration@10", "--metric", "hr@10", "--json"]) == 0
    tests = json.loads(capsys.readouterr().out)["tests"]
    assert {test["metric"]: test["higher_is_better"] for test in tests} == {"calibration@10": False, "hr@10": True}
    assert main(["compare", *map(str, copies), "--metric", "calibration@10"]) == 0
    assert "CALIBRATION@10, lower is better" in capsys.readouterr().out


def test_order_of_users_does_not_matter(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    path = copy / "private" / "test_model.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)
    capsys.readouterr()
    assert main(["compare", str(trained), str(copy), "--json"]) == 0
    assert {test["difference"] for test in json.loads(capsys.readouterr().out)["tests"]} == {0.0}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame.head(3), "needs the same users"),
        (lambda frame: frame.with_columns(target_id=pl.col("target_id").reverse()), "needs the same targets"),
        (lambda frame: frame.drop("user_id"), "are damaged"),
    ],
)
def test_what_cannot_be_compared(
    trained: Path,
    tmp_path: Path,
    damage: Callable[[pl.DataFrame], pl.DataFrame],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    path = copy / "private" / "test_model.parquet"
    damage(pl.read_parquet(path)).write_parquet(path)
    assert main(["compare", str(trained), str(copy)]) == 1
    assert message in capsys.readouterr().err


def test_another_protocol(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    metrics = json.loads((copy / "metrics.json").read_text(encoding="utf-8"))
    metrics["test"]["model"]["protocol"]["history"] = "ranked"
    (copy / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert main(["compare", str(trained), str(copy)]) == 1
    assert "needs the same protocol" in capsys.readouterr().err


def test_published_runs_have_no_results_of_single_users(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "private")
    assert main(["compare", str(trained), str(copy)]) == 1
    assert "private/ and which are not published" in capsys.readouterr().err
    assert main(["compare", str(trained), str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err


def test_runs_without_a_common_metric(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    path = copy / "private" / "test_model.parquet"
    frame = pl.read_parquet(path)
    frame.rename({name: name.replace("@10", "@20") for name in frame.columns}).write_parquet(path)
    assert main(["compare", str(trained), str(copy)]) == 1
    assert f"the {copy} evaluation has no 'hr@10'" in capsys.readouterr().err
    recipe = copy / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^  ks:(\n  - 10| \[10\])$", "  ks: [20]", text)
    recipe.write_text(text.replace("metric: ndcg@10", "metric: ndcg@20"), encoding="utf-8")
    assert main(["compare", str(trained), str(copy)]) == 1
    assert f"{copy} has hr@20, ndcg@20, mrr@20: no metric is in all of them" in capsys.readouterr().err


@pytest.fixture(scope="module")
def popular(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of popularity, `run` and `again` with another `training.seed`; read only."""
    folder = tmp_path_factory.mktemp("popular")
    words = ["train", str(write_recipe(folder)), "baseline.kind=popularity"]
    assert main(words) == 0
    assert main([*words, "training.seed=1", f"output_dir={folder / 'again'}"]) == 0
    return folder


def test_baselines_without_a_seed(
    trained: Path, other: Path, popular: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(trained), f"{popular / 'run'},{popular / 'again'}"]) == 1
    said = capsys.readouterr().err
    assert f"{popular / 'run'}: is a baseline without a seed" in said
    assert "name it once, alone" in said
    assert read_arm(popular / "run").seeds == ()
    assert main(["compare", f"{trained},{other}", str(popular / "run")]) == 0
    shown = capsys.readouterr().out
    assert "A - B: one has no seed, so each run is compared with each (2 pairs)." in shown
    assert "B has no seed: another run of it would be the same." in shown
    assert "single run" not in shown
    assert main(["compare", str(popular / "run"), str(popular / "again")]) == 0
    shown = capsys.readouterr().out
    assert "A, B have no seed: another run of one would be the same." in shown
    assert "seeds of" not in shown


def test_arms_of_other_data_are_told(
    trained: Path, other: Path, popular: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(other, tmp_path / "copy")
    metrics = json.loads((copy / "metrics.json").read_text(encoding="utf-8"))
    (copy / "metrics.json").write_text(json.dumps(metrics | {"data_sha256": "0" * 64}), encoding="utf-8")
    assert main(["compare", str(trained), str(copy), str(other)]) == 0
    shown = capsys.readouterr().out
    assert f"A and B differ in data_sha256 ({metrics['data_sha256'][:12]} and 000000000000): users and" in shown
    assert "A and C" not in shown
    times = shutil.copytree(popular / "run", tmp_path / "times")
    recipe = (times / "recipe.yaml").read_text(encoding="utf-8")
    (times / "recipe.yaml").write_text(recipe.replace("window: 1.0", "window: 0.5"), encoding="utf-8")
    metrics = json.loads((times / "metrics.json").read_text(encoding="utf-8"))
    (times / "metrics.json").write_text(json.dumps(metrics | {"data_sha256": "1" * 64}), encoding="utf-8")
    assert main(["compare", str(trained), str(times)]) == 0
    assert "A and B: data_sha256 holds the times of events for one alone" in capsys.readouterr().out


def copy_run(run: Path, copy: Path, seed: int, *, moved: float = 0.0, recipe: tuple[str, str] = ("", "")) -> Path:
    """Copy a run as if it had been trained with another seed, its metrics moved a little."""
    shutil.copytree(run, copy)
    path = copy / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    changed = re.sub(r"(?m)^(training:\n(?:  .*\n)*?  seed: )\d+", rf"\g<1>{seed}", text)
    path.write_text(changed.replace(*recipe) if recipe[0] else changed, encoding="utf-8")
    assert peftrec.load_recipe(path).training.seed == seed
    users = copy / "private" / "test_model.parquet"
    frame = pl.read_parquet(users)
    noise = np.random.default_rng(seed).normal(size=len(frame)) * 0.01
    frame.with_columns(pl.Series("ndcg@10", frame["ndcg@10"].to_numpy() + noise + moved)).write_parquet(users)
    return copy


@pytest.fixture(scope="module")
def runs(trained: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `a_0` to `a_2` and `b_0` to `b_2` with seeds 0 to 2, `c_7` and `c_8` with seeds 7 and 8."""
    folder = tmp_path_factory.mktemp("several")
    for seed in range(3):
        copy_run(trained, folder / f"a_{seed}", seed, moved=0.05 + 0.01 * seed)
        copy_run(other, folder / f"b_{seed}", seed)
    for seed in (7, 8):
        copy_run(trained, folder / f"c_{seed}", seed)
    return folder


class TestSeveral:
    def found(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["compare", *arguments, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    def test_the_first_with_each_of_the_others(self, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        names = [str(runs / name) for name in ("a_0", "b_0", "c_7")]
        found = self.found(capsys, *names, "--metric", "ndcg@10", "--metric", "hr@10", "--level", "0.9")
        assert [(test["second_arm"], test["metric"]) for test in found["tests"]] == [
            (name, metric) for name in names[1:] for metric in ("ndcg@10", "hr@10")
        ]
        assert {test["first_arm"] for test in found["tests"]} == {names[0]}
        assert (found["level"], found["num_tests"], found["correction"]) == (0.9, 4, "holm")
        p_values = [test["p_value"] for test in found["tests"]]
        np.testing.assert_allclose([test["adjusted_p_value"] for test in found["tests"]], holm(p_values))
        alone = self.found(capsys, names[0], names[2], "--metric", "hr@10", "--level", "0.9")["tests"][0]
        assert alone["p_value"] == alone["adjusted_p_value"] == p_values[3]
        assert alone["low"] == found["tests"][3]["low"]
        assert main(["compare", *names]) == 0
        shown = capsys.readouterr().out
        assert "test: A is compared with each of the others, on the same " in shown
        assert "a difference is A minus the other" in shown
        assert "over seeds" not in shown

    def test_eighty_columns_hold_every_figure(
        self, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        narrow = functools.partial(Console, width=80, highlight=False, markup=False)
        monkeypatch.setattr(comparison_table, "console", narrow)
        for number, name in enumerate(("a_0", "a_1", "b_0", "b_1", "c_7")):
            copy = shutil.copytree(runs / name, tmp_path / name)
            path = copy / "private" / "test_model.parquet"
            frame = pl.read_parquet(path)
            lift = -120.0 - number + np.linspace(-80.0, 80.0, len(frame))
            frame.with_columns(pl.Series("popularity_lift@10", lift)).write_parquet(path)
        words = [f"{tmp_path}/a_*", f"{tmp_path}/b_*", str(tmp_path / "c_7"), "--metric", "popularity_lift@10"]
        found = self.found(capsys, *words)
        assert main(["compare", *words]) == 0
        shown = capsys.readouterr().out
        table = shown.split("\n\n")[1].splitlines()
        assert max(map(len, table)) <= 80
        assert all(str(folder) in shown for folder in (f"{tmp_path}/a_*", tmp_path / "c_7"))
        for test in found["tests"]:
            seeds = test["seeds"]
            figures = [f"{test[key]:.4f}" for key in ("first", "second", "p_value", "adjusted_p_value")]
            figures += [f"{test['difference']:+.4f}", f"[{test['low']:+.4f}, {test['high']:+.4f}]"]
            figures += [f"{seeds['low']:+.4f} to {seeds['high']:+.4f}, sd {seeds['deviation']:.4f}, same sign"]
            assert all(any(figure in line for line in table) for figure in figures), figures
        assert "…" not in shown

    def test_seeds_as_a_pattern_and_with_commas(self, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        commas = ",".join(str(runs / f"b_{seed}") for seed in (2, 0, 1))
        found = self.found(capsys, f"{runs}/a_*", commas)
        assert [arm["seeds"] for arm in found["arms"]] == [[0, 1, 2], [0, 1, 2]]
        assert found["arms"][1]["folders"] == [str(runs / f"b_{seed}") for seed in range(3)]
        test = next(test for test in found["tests"] if test["metric"] == "ndcg@10")
        seeds = test["seeds"]
        assert (seeds["paired"], seeds["num_pairs"], seeds["num_first"]) == (True, 3, 3)
        single = [self.found(capsys, str(runs / f"a_{n}"), str(runs / f"b_{n}"))["tests"][1] for n in range(3)]
        differences = [test["difference"] for test in single]
        assert test["difference"] == pytest.approx(np.mean(differences))
        assert (seeds["low"], seeds["high"]) == pytest.approx((min(differences), max(differences)))
        assert seeds["deviation"] == pytest.approx(np.std(differences, ddof=1))
        assert main(["compare", f"{runs}/a_*", commas]) == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in ("over seeds", "sd", "same sign", "3 of 3", "runs of one seed are paired"))
        assert "says nothing of others" in shown

    def test_other_seeds_are_not_paired(self, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = self.found(capsys, f"{runs}/a_*", f"{runs}/c_*", str(runs / "b_1"))
        spreads = [test["seeds"] for test in found["tests"] if test["metric"] == "ndcg@10"]
        assert [(spread["paired"], spread["num_pairs"]) for spread in spreads] == [(False, 6), (False, 3)]
        assert main(["compare", f"{runs}/a_*", f"{runs}/c_*", str(runs / "b_1")]) == 0
        shown = capsys.readouterr().out
        assert "each run is compared with each (6 pairs)" in shown
        assert "A - B: not the same seeds, so each run" in shown
        assert "C is a single run: interval and p tell nothing of other seeds of it." in shown

    def test_from_python(self, runs: Path) -> None:
        found = peftrec.compare([runs / f"a_{n}" for n in range(3)], runs / "b_0", metrics=["ndcg@10"])
        assert len(found.tests) == 1
        assert found.tests[0].test.seeds is not None
        with pytest.raises(peftrec.InputError, match="two runs or more"):
            peftrec.compare(runs / "a_0")
        with pytest.raises(peftrec.InputError, match="split: 'train' is not one of valid, test"):
            peftrec.compare(runs / "a_0", runs / "b_0", split="train")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("{}/none_*", "{}/b_0"), "no folder has such a name"),
            (("{}/a_0,{}/b_0,{}/a_0", "{}/b_0"), "is named twice"),
            (("{}/a_0", "{}/b_0,{}/none"), "recipe.yaml is missing"),
            (("{}/a_0", ","), "names no run folder"),
            (("{}/a_0", "{}/b_0", "--level", "95"), "level: must lie between 0 and 1"),
            (("{}/a_0", "{}/b_0", "--metric", "ndcg@7"), "has no 'ndcg@7'; it has hr@10"),
            (("{}/a_0", "{}/b_0", "--metric", "sampled100_hr@10"), "was ranked in the whole catalogue alone"),
            (("{}/a_0", "{}/b_0", "--metric", "sampled100_hr@10", "--metric", "hr@10"), "one kind at a time"),
        ],
    )
    def test_what_is_refused(
        self, runs: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["compare", *(argument.replace("{}", str(runs)) for argument in arguments)]) == 1
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize("place", [0, 1, 2, 3], ids=["a_0", "a_1", "b_0", "b_1"])
    @pytest.mark.parametrize("what", ["users", "targets", "protocol"])
    def test_any_folder_that_differs_is_refused_and_named(
        self, runs: Path, tmp_path: Path, place: int, what: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folders = [runs / name for name in ("a_0", "a_1", "b_0", "b_1")]
        broken = tmp_path / "broken"
        shutil.copytree(folders[place], broken)
        folders[place] = broken
        path = broken / "private" / "test_model.parquet"
        frame = pl.read_parquet(path)
        if what == "users":
            frame.head(3).write_parquet(path)
        elif what == "targets":
            frame.with_columns(target_id=pl.col("target_id").reverse()).write_parquet(path)
        else:
            metrics = json.loads((broken / "metrics.json").read_text(encoding="utf-8"))
            metrics["test"]["model"]["protocol"]["num_items"] += 1
            (broken / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        arms = [",".join(map(str, folders[:2])), ",".join(map(str, folders[2:]))]
        assert main(["compare", *arms]) == 1
        said = capsys.readouterr().err
        assert f"needs the same {what}" in said
        assert str(broken) in said

    def test_metrics_that_some_users_lack(self, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        copies = []
        for name in ("a_0", "b_0"):
            copies.append(tmp_path / name)
            shutil.copytree(runs / name, copies[-1])
            path = copies[-1] / "private" / "test_model.parquet"
            frame = pl.read_parquet(path)
            own = np.where(np.arange(len(frame)) < 2, np.nan, np.arange(len(frame)) % 3)
            frame.with_columns(pl.Series("novelty@10", own, nan_to_null=name == "a_0")).write_parquet(path)
        found = self.found(capsys, *map(str, copies), "--metric", "novelty@10")
        test = found["tests"][-1]
        assert (test["metric"], test["num_left_out"], test["num_users"]) == ("novelty@10", 2, len(frame) - 2)
        assert main(["compare", *map(str, copies), "--metric", "novelty@10"]) == 0
        assert "NOVELTY@10 against B: 2 users are left out" in capsys.readouterr().out

    def test_a_column_without_numbers_is_damage(
        self, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(runs / "a_0", tmp_path / "a")
        path = tmp_path / "a" / "private" / "test_model.parquet"
        pl.read_parquet(path).with_columns(group=pl.lit("old")).write_parquet(path)
        assert main(["compare", str(tmp_path / "a"), str(runs / "b_0")]) == 1
        assert "are damaged" in capsys.readouterr().err


class TestArms:
    def test_ensembles_of_other_weights_are_not_one(
        self, trained: Path, other: Path, popular: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = []
        for number, (run, weights) in enumerate([(trained, [3.0, 1.0]), (other, [1.0, 1.0]), (other, [0.75, 0.25])]):
            names.append(str(tmp_path / str(number)))
            members = [shutil.copytree(run, tmp_path / f"m{number}" / "text"), popular / "run"]
            ensemble(members, names[-1], weights=weights)
        assert main(["compare", f"{names[0]},{names[1]}", str(popular / "run")]) == 1
        said = capsys.readouterr().err
        assert "they differ in ensemble.weights ([0.75, 0.25] and [0.5, 0.5])" in said
        assert read_arm(f"{names[0]},{names[2]}").seeds == (0, 5)

    def test_runs_of_two_recipes_are_not_one(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one = copy_run(trained, tmp_path / "one", 0)
        other = copy_run(trained, tmp_path / "other", 1, recipe=("num_epochs: 1\n", "num_epochs: 2\n"))
        assert main(["compare", f"{one},{other}", str(trained)]) == 1
        said = capsys.readouterr().err
        assert "must be of one recipe but for the seed; they differ in training.num_epochs (1 and 2)" in said

    def test_runs_of_one_seed_are_not_two(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, other = copy_run(trained, tmp_path / "one", 3), copy_run(trained, tmp_path / "other", 3)
        assert main(["compare", f"{one},{other}", str(trained)]) == 1
        assert "are both of seed 3" in capsys.readouterr().err

    def test_runs_of_other_data_are_not_one(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, other = copy_run(trained, tmp_path / "one", 0), copy_run(trained, tmp_path / "other", 1)
        metrics = json.loads((other / "metrics.json").read_text(encoding="utf-8"))
        (other / "metrics.json").write_text(json.dumps(metrics | {"data_sha256": "0" * 64}), encoding="utf-8")
        assert main(["compare", f"{one},{other}", str(trained)]) == 1
        assert "they differ in data_sha256" in capsys.readouterr().err

    def test_what_decides_no_result_may_differ(self, trained: Path, tmp_path: Path) -> None:
        one = copy_run(trained, tmp_path / "one", 0)
        other = copy_run(trained, tmp_path / "other", 1, recipe=("batch_users: 512\n", "batch_users: 64\n"))
        changed = (other / "recipe.yaml").read_text(encoding="utf-8").replace("output_dir: ", "output_dir: else/where")
        (other / "recipe.yaml").write_text(changed, encoding="utf-8")
        recipes = [peftrec.load_recipe(run / "recipe.yaml") for run in (one, other)]
        assert recipes[0].evaluation.batch_users != recipes[1].evaluation.batch_users
        assert len(read_arm(f"{one},{other}").folders) == 2

    def test_a_folder_is_taken_by_its_own_name(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "a,b[0]"
        copy_run(trained, tmp_path / "a", 0).rename(folder)
        assert read_arm(folder).folders == (folder,)
        assert main(["compare", str(folder), str(trained), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["first"] == str(folder)
