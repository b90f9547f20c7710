from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import peftrec
from peftrec.cli import main
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
    assert f"test, {trained} minus {other}, the same " in shown


def test_a_run_with_itself(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["compare", str(trained), str(trained), "--json"]) == 0
    for test in json.loads(capsys.readouterr().out)["tests"]:
        assert (test["difference"], test["p_value"]) == (0.0, 1.0)


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
    assert "no metric is in all of them" in capsys.readouterr().err


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
        assert f"test, {names[0]} minus each run in the column minus, the same " in shown
        assert "over seeds" not in shown

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
        assert f"{runs / 'b_1'} is one run" in shown

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
        found = self.found(capsys, *map(str, copies))
        test = found["tests"][-1]
        assert (test["metric"], test["num_left_out"], test["num_users"]) == ("novelty@10", 2, len(frame) - 2)
        assert main(["compare", *map(str, copies)]) == 0
        assert f"NOVELTY@10 against {copies[1]}: 2 users are left out" in capsys.readouterr().out

    def test_a_column_without_numbers_is_damage(
        self, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(runs / "a_0", tmp_path / "a")
        path = tmp_path / "a" / "private" / "test_model.parquet"
        pl.read_parquet(path).with_columns(group=pl.lit("old")).write_parquet(path)
        assert main(["compare", str(tmp_path / "a"), str(runs / "b_0")]) == 1
        assert "are damaged" in capsys.readouterr().err


class TestArms:
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
