"""`peftrec data inspect`: prints, draws, and says what it could not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from peftrec.cli import main


def test_prints_and_draws(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, page = write_recipe(tmp_path), tmp_path / "data.html"
    words = ["data", "inspect", str(recipe), "data.split.kind=cold_items", "--html", str(page), "encoder.max_tokens=5"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("60 users, 40 items, ")
    assert "(100.0%) are longer than encoder.max_tokens=5 and cut" in shown
    assert "tokens a text" in shown
    assert "what leaks: A hold-out of items leaks in time" in shown
    assert "duplicate interactions" in shown
    assert shown.endswith(f"drawn into {page}\n")
    drawn = page.read_text(encoding="utf-8")
    assert drawn.startswith("<!doctype html>")
    assert f"{recipe} data.split.kind=cold_items" in drawn


def test_kinds_of_events_and_their_weights(
    write_recipe: Callable[..., Path],
    write_toy: Callable[[Path], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_toy(tmp_path / "weighed")
    header, *rows = (root / "interactions.csv").read_text().splitlines()
    weighed = [f"{row},{('view', 'hover', 'buy')[place % 3]}" for place, row in enumerate(rows)]
    (root / "interactions.csv").write_text("\n".join([f"{header},event", *weighed]) + "\n")
    overrides = [f"data.root={root}", "data.event_weights={view: 0.25, buy: 1, hover: 0}"]
    assert main(["data", "inspect", str(write_recipe(tmp_path)), *overrides]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["kind", "word", "weight", "read", "after", "cleaning"] in lines
    hovers = sum(row.endswith("hover") for row in weighed)
    assert ["hover", "0", f"{hovers}", "0"] in lines
    views = str(sum(row.endswith("view") for row in weighed))
    assert ["view", "0.25", views, views] in lines


def test_json_and_nothing_else(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "inspect", str(write_recipe(tmp_path)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["users"], found["items"], found["split"]) == (60, 40, "leave_one_out")
    assert [part["name"] for part in found["parts"]] == ["train", "valid", "test"]
    assert found["texts"]["unit"] == "tokens"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("encoder.backbone=./nowhere", "'./nowhere' is neither a Hub id (owner/name) nor a folder that exists"),
        ("encoder.inputs=ids encoder.embedding_dim=8", "encoder.inputs is ids, which reads no text"),
    ],
)
def test_words_where_there_are_no_tokens(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, reason: str
) -> None:
    assert main(["data", "inspect", str(write_recipe(tmp_path)), *override.split()]) == 0
    shown = capsys.readouterr().out
    assert "words a text" in shown
    assert f"nothing is known of truncation: {'encoder.backbone: ' if 'nowhere' in reason else ''}{reason}" in shown


def test_a_folder_without_a_tokenizer(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    recipe = write_recipe(tmp_path)
    assert main(["data", "inspect", str(recipe), f"encoder.backbone={tmp_path / 'empty'}"]) == 0
    assert "encoder.backbone: no tokenizer of" in capsys.readouterr().out


def test_wrong_data_are_an_error(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path)
    assert main(["data", "inspect", str(recipe), "data.items=nowhere.csv"]) == 1
    assert "nowhere.csv" in capsys.readouterr().err
    assert main(["data", "inspect", str(recipe), "data.split.bogus=1"]) == 2
