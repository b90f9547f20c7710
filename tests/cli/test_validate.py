from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peftrec.cli import main

RECIPE = """
data: {kind: tables, root: no/such/folder, interactions: a.csv, items: b.csv}
encoder: {backbone: no-such-owner/no-such-model}
method: {kind: lora, layers: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_needs_neither_data_nor_backbone(
    recipe: Callable[[str], str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr("peftrec.encoders.backbone._locate", lambda *_: pytest.fail("a backbone was looked for"))
    path = recipe(RECIPE)
    assert main(["validate", path]) == 0
    shown = capsys.readouterr().out
    assert f"{path} is valid" in shown
    assert "lora on layers: 2, learning rate 0.0003" in shown
    assert "not looked at" in shown


def test_overrides_may_stand_anywhere(recipe: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["validate", recipe(RECIPE), "method.layers=1", "--debug", "optimizer.learning_rate=1e-3"]
    assert main(words) == 0
    assert "lora on layers: 1, learning rate 0.001" in capsys.readouterr().out


def test_a_baseline(recipe: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", recipe(RECIPE), "baseline.kind=popularity"]) == 0
    shown = capsys.readouterr().out
    assert "popularity" in shown
    assert "no-such-model for content_knn, which stands beside every result" in shown
    assert "method" not in shown


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.rnak=4"], "method.rnak: unknown key. Did you mean 'rank'?"),
        (["method.kimd=lora"], "method.kimd: unknown key. Did you mean 'kind'? Known here: layers"),
        (["method.rank=four"], "method.rank: expected a whole number, found 'four' (str)"),
        (["method.rank=0"], "method.rank: 0 is out of range; it must be >= 1"),
        (["method.kind=loar"], "method.kind: unknown kind 'loar' (str). Did you mean 'lora'?"),
        (["training.metric=ndcg@20"], "training.metric: 'ndcg@20' is not evaluated"),
        (["data.template={title"], "data"),
        (["rank"], "override 'rank': expected key=value"),
    ],
)
def test_wrong_recipes_exit_2(
    recipe: Callable[[str], str], overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(RECIPE)
    assert main(["validate", path, *overrides]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith(f"peftrec: {path}: ")
    assert shown.err.count("\n") == 1


def test_a_missing_file_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.yaml"
    assert main(["validate", str(path)]) == 2
    assert f"peftrec: {path}: there is no such file" in capsys.readouterr().err


def test_broken_yaml_names_line_and_column(recipe: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe("data: {kind: tables\nmethod: 1\n")
    assert main(["validate", path]) == 2
    assert f"{path}, line " in capsys.readouterr().err
