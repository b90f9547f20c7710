from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftrec.cli import main


def test_a_run_is_exported_and_the_gap_is_shown(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["export", str(trained), str(tmp_path / "merged"), "--to", "merged"]) == 0
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'merged'}: " in shown
    assert "lora folded in" in shown
    assert "merged and trained (full-precision)" in shown
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert main(["export", str(trained), str(tmp_path / "again"), "--to", "merged", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"folder": str(tmp_path / "again"), **json.loads((tmp_path / "again" / "export.json").read_text())}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{run}", "{run}", "--to", "merged"], 2, "is there already"),
        (["{new}", "{new}", "--to", "merged"], 1, "there is no such run folder"),
        (["{run}", "{new}", "--to", "onxx"], 2, "unknown export kind 'onxx'. Did you mean 'onnx'? Known: merged, "),
        (["{run}", "{new}", "--to", "merged", "--int8"], 2, "--int8: is no option of --to merged"),
        (["{run}", "{new}", "--to", "onnx", "--projected"], 2, "--projected: is no option of --to onnx"),
        (["{run}", "{new}", "--to", "onnx", "--data", "x"], 2, "--data: is read by --int8 alone"),
        (
            ["{run}", "{new}", "--to", "faiss", "--index", "ivf"],
            2,
            "export.index: 'ivf' (str) is not allowed. One of: flat",
        ),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    words: list[str], code: int, message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["export", *(word.format(run=trained, new=tmp_path / "new") for word in words)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_options_reach_the_target(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss")
    capsys.readouterr()
    assert main(["export", str(trained), str(tmp_path / "index"), "--to", "faiss", "--index", "hnsw"]) == 0
    shown = capsys.readouterr().out
    assert "inner product (hnsw)" in shown
    assert "recall@10 against the run's exact lists" in shown
