"""Sampled candidates in a run: beside the full numbers, never in their place."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftrec
from peftrec.cli import main
from peftrec.config import RecipeError

SAMPLED = "evaluation.sampled_candidates={number: 10, by: popularity, seed: 2}"


@pytest.fixture(scope="module")
def runs(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One recipe with, without, and with other sampled candidates."""
    folder = tmp_path_factory.mktemp("sampled")
    given = {"with": (SAMPLED,), "without": (), "other": (SAMPLED.replace("seed: 2", "seed: 3"),)}
    for name, overrides in given.items():
        peftrec.train(make_recipe("training.num_epochs=2", *overrides, output_dir=folder / name))
    return {name: folder / name for name in given}


def metrics_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "metrics.json").read_text(encoding="utf-8")))


def test_full_numbers_and_training_stay_what_they_were(runs: dict[str, Path]) -> None:
    one, other = metrics_of(runs["with"]), metrics_of(runs["without"])
    for split in ("valid", "test"):
        assert {key: row for key, row in one[split].items() if key != "sampled"} == other[split]
        assert "sampled" not in other[split]
    assert one["training"]["best_metric"] == other["training"]["best_metric"]


def test_sampled_numbers_are_labelled_and_stand_apart(runs: dict[str, Path]) -> None:
    found = metrics_of(runs["with"])["test"]
    rows = found["sampled"]
    assert set(rows) == {name for name, row in found.items() if isinstance(row, dict) and "metrics" in row}
    for row in rows.values():
        assert list(row["metrics"]) == ["sampled10_hr@10", "sampled10_ndcg@10", "sampled10_mrr@10"]
        assert row["protocol"]["catalogue"].startswith("10 sampled, popularity, seed 2, draws ")
    assert len({row["protocol"]["catalogue"] for row in rows.values()}) == 1
    assert rows["model"]["metrics"]["sampled10_ndcg@10"] > found["model"]["metrics"]["ndcg@10"]


def test_evaluate_gives_and_prints_them(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    stored = metrics_of(runs["with"])["test"]["sampled"]["model"]["metrics"]
    found = peftrec.evaluate(runs["with"])["sampled"]["model"]["metrics"]
    assert found == pytest.approx(stored)
    capsys.readouterr()
    assert main(["evaluate", str(runs["without"]), SAMPLED]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"target among 10 sampled, popularity, seed 2, draws \w{12}: only to compare with papers", shown)
    assert "SAMPLED10_HR@10" in shown
    assert not (runs["without"] / "private" / "test_sampled_model.parquet").exists()


def test_compare_takes_them_by_name_and_with_their_like_alone(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = [str(runs["with"]), str(shutil.copytree(runs["with"], tmp_path / "copy"))]
    assert main(["compare", *same, "--metric", "sampled10_hr@10"]) == 0
    assert "TARGETS RANKED AMONG 10 sampled, popularity, seed 2" in " ".join(capsys.readouterr().out.split())
    found = peftrec.compare(runs["with"], runs["without"])
    assert [row.test.metric for row in found.tests] == ["hr@10", "ndcg@10", "mrr@10"]
    assert {row.test.difference for row in found.tests} == {0.0}
    with pytest.raises(peftrec.InputError, match="was ranked in the whole catalogue alone"):
        peftrec.compare(runs["with"], runs["without"], metrics=["sampled10_hr@10"])
    with pytest.raises(peftrec.InputError, match="needs the same protocol"):
        peftrec.compare(runs["with"], runs["other"], metrics=["sampled10_hr@10"])


def test_weights_are_not_chosen_by_them(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"training.metric: 'sampled10_hr@10' is not evaluated"):
        make_recipe(SAMPLED, "training.metric=sampled10_hr@10", output_dir=tmp_path / "run")


def test_more_than_there_are_is_refused(runs: dict[str, Path]) -> None:
    with pytest.raises(peftrec.InputError, match=r"sampled_candidates.number: 100 items are to be drawn, but for user"):
        peftrec.evaluate(runs["without"], overrides=["evaluation.sampled_candidates.number=100"])
