from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftrec.cli import main


def test_a_run_is_merged_and_the_gap_is_shown(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["merge", str(trained), str(tmp_path / "merged")]) == 0
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'merged'}: " in shown
    assert "lora folded in" in shown
    assert "merged and trained (full-precision)" in shown
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert main(["merge", str(trained), str(tmp_path / "again"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"folder": str(tmp_path / "again"), **json.loads((tmp_path / "again" / "merge.json").read_text())}


def test_mistakes_are_one_line_and_an_exit_code(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["merge", str(trained), str(trained)]) == 2
    assert main(["merge", str(tmp_path / "gone"), str(tmp_path / "merged")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "is there already" in lines[0]
    assert "there is no such run folder" in lines[1]
