from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from peftrec.cli import main


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
    for test in found["tests"]:
        assert test["first"] == pytest.approx(stored[0]["metrics"][test["metric"]])
        assert test["second"] == pytest.approx(stored[1]["metrics"][test["metric"]])
        assert test["difference"] == pytest.approx(test["first"] - test["second"])
        assert test["num_users"] == stored[0]["num_cases"]
        assert test["low"] <= test["difference"] <= test["high"]
        assert 0 < test["p_value"] <= 1
    assert main(["compare", str(trained), str(other)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("test, ", "HR@10", "NDCG@10", "95% interval", str(other)))


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
