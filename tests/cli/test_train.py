from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.cli import main
from peftrec.recipe import load_recipe

REPOSITORY = Path(__file__).parents[2]
WriteRecipe = Callable[..., Path]


def test_trains_and_prints_the_table(
    write_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(write_recipe(tmp_path)), "training.num_epochs=1", "--debug"]) == 0
    shown = capsys.readouterr()
    first_words = [line.split()[0] for line in shown.out.splitlines() if line.strip()]
    assert [word for word in first_words if word in ("model", "popularity", "content_knn")] == [
        "model", "popularity", "content_knn",
    ]  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["test"]["model"]
    (row,) = (line for line in shown.out.splitlines() if line.split()[:1] == ["model"])
    low, high = test["intervals"]["ndcg@10"]
    assert f"{test['metrics']['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]" in row
    assert f" {test['num_cases']} " in row
    assert f" {sum(part['trainable'] for part in metrics['parameters']):,} " in row
    assert "HR@10" in shown.out
    assert "Leave-one-out leaks" in shown.out
    assert "saved to" in shown.err


def test_a_taken_folder_is_refused_unless_overwritten(
    write_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, "baseline.kind=popularity")
    assert main(["train", str(recipe)]) == 0
    before = (tmp_path / "run" / "peftrec.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["train", str(recipe)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "already holds a run" in shown.err
    assert "--overwrite" in shown.err
    assert (tmp_path / "run" / "peftrec.json").stat().st_mtime_ns == before
    assert main(["train", str(recipe), "--overwrite"]) == 0
    assert (tmp_path / "run" / "peftrec.json").stat().st_mtime_ns > before


def test_files_that_are_no_run_are_never_overwritten(
    write_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    assert main(["train", str(write_recipe(tmp_path)), "--overwrite"]) == 2
    assert "no run of peftrec" in capsys.readouterr().err
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


def test_nothing_to_resume(write_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(write_recipe(tmp_path)), "--resume"]) == 2
    assert "no stopped run to resume" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_print_recipe_reads_back_and_trains_nothing(
    write_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(tmp_path)
    assert main(["train", str(path), "--print-recipe", "method.kind=frozen", "training.seed=3"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    recipe = load_recipe(printed)
    assert recipe == load_recipe(path, ["method.kind=frozen", "training.seed=3"])
    assert recipe.training.seed == 3
    assert "graph_memory_mib" in printed.read_text(encoding="utf-8")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["data.interactions=none.csv"], 1, "none.csv"),
        (["data.columns.item=product"], 1, "product"),
        (["data.template={plot}"], 2, "plot"),
        (["data.cleaning.min_user_events=1000"], 1, "1000"),
        (["data.timestamps=order", "data.split.kind=global_time"], 2, "global_time needs times"),
        (["encoder.backbone=no/such/folder"], 1, "encoder.backbone: 'no/such/folder'"),
        (["method.layers=9"], 1, "method.layers is 9; the backbone has 3 layers"),
        (["method.targets=[nothing_like_it]"], 1, "nothing_like_it"),
        (["user.num_heads=5"], 2, "user.num_heads: 5 does not divide"),
        (["training.num_epochs=0"], 2, "training.num_epochs: 0 is out of range"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    write_recipe: WriteRecipe,
    tmp_path: Path,
    overrides: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = write_recipe(tmp_path)
    assert main(["train", str(recipe), *overrides]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    (complaint,) = (line for line in shown.err.splitlines() if line.startswith("peftrec: "))
    assert message in complaint
    assert "Traceback" not in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


WITHOUT_TEXT = "item_id,title,category\n" + "".join(
    f"{kind}{number},,\n" for kind in ("wine", "cheese", "bread", "tea") for number in range(10)
)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("interactions.csv", "user_id,item_id,timestamp\n", "interactions.csv"),
        ("items.csv", WITHOUT_TEXT, "text"),
        ("interactions.csv", "user_id,item_id,timestamp\nu,nowhere,1700000000\n", "nowhere"),
        ("interactions.csv", "user_id,item_id,timestamp\nu,wine0,yesterday\n", "'yesterday'"),
        ("interactions.csv", "user_id,item_id\nu,wine0\n", "'timestamp'"),
        ("interactions.csv", b"user_id,item_id,timestamp\nu,wine\xff0,1700000000\n", "UTF-8"),
        ("interactions.csv", "user_id,item_id,timestamp,rating\nu,wine0,1700000000,nan\n", "rating"),
        ("interactions.csv", "user_id,item_id,timestamp\nu,wine0,1700000000\n", "case"),
    ],
)
def test_bad_tables_leave_nothing_behind(
    write_recipe: WriteRecipe,
    write_toy: Callable[[Path], Path],
    tmp_path: Path,
    file: str,
    content: str | bytes,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_toy(tmp_path / "data")
    (data / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    rating = ["data.cleaning.min_rating=3"] if message == "rating" else []
    assert main(["train", str(write_recipe(tmp_path)), f"data.root={data}", *rating]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (complaint,) = (line for line in shown.err.splitlines() if line.startswith("peftrec: "))
    assert message in complaint
    assert "Traceback" not in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "recipe.yaml"]


@pytest.mark.slow
def test_accelerate_launches_it(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    launcher = Path(sys.executable).with_name("accelerate")
    config = REPOSITORY / "recipes" / "accelerate" / "cpu.yaml"
    words: list[Any] = [launcher, "launch", "--config_file", config, "-m", "peftrec", "train", write_recipe(tmp_path)]
    done = subprocess.run([*words, "training.num_epochs=1"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "peftrec.json").is_file()
    assert "content_knn" in done.stdout
