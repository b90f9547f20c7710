from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peftrec.cli import main


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_json_is_one_document_and_nothing_else(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["split"] == "test"
    assert {"hr@10", "mrr@10", "ndcg@10", "auc", "novelty@10"} <= set(found["model"]["metrics"])
    stored = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    for name in ("model", "popularity", "content_knn"):
        ranks = {key: found[name]["metrics"][key] for key in ("hr@10", "ndcg@10", "mrr@10")}
        assert ranks == pytest.approx(stored["test"][name]["metrics"], abs=1e-6), name
    assert found["parameters"] == stored["parameters"]


def test_split_and_cutoffs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(trained), "evaluation.ks=[1,5]", "--split", "valid"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("valid, whole catalogue")
    assert "nothing was written (see --output)" in shown
    assert all(name in shown for name in ("HR@1", "NDCG@5", "model", "popularity", "content_knn", "parameters"))


def test_a_report_is_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    assert f"written: {run / 'metrics.json'}, {run / 'report_test.html'}" in shown
    assert all(name in shown for name in ("novelty@10", "diversity@10", "coverage@10", "gini@10"))
    assert main(["evaluate", str(run), "evaluation.ks=[1]", "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report_test.md").is_file()


def test_other_sections_are_fixed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained), "method.rank=2"]) == 2
    assert "takes only data.* and evaluation.*" in capsys.readouterr().err


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path / "none")]) == 1
    assert "there is no such run folder" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "head.safetensors", "recipe.yaml", "peftrec.json"])
def test_truncated_and_edited_files_are_refused(
    trained: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, damage in enumerate((lambda content: content[:-7], lambda content: b"#" + content[1:])):
        copy = tmp_path / str(number)
        shutil.copytree(trained, copy)
        (copy / file).write_bytes(damage((copy / file).read_bytes()))
        capsys.readouterr()
        assert main(["evaluate", str(copy), "--json"]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"peftrec: {copy / file}: ")
        assert shown.err.count("\n") == 1
