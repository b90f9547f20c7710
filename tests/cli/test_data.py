from __future__ import annotations

from pathlib import Path

import pytest

from peftrec.cli import main
from peftrec.data import DOWNLOADS


def test_list_names_every_data_set_with_its_terms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(DOWNLOADS)
    assert "no commercial use" in lines[0]


def test_get_leaves_what_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    for file in DOWNLOADS["ml-100k"].tables:
        (folder / file).write_text("mine")
    assert main(["data", "get", "ml-100k", "--root", str(tmp_path)]) == 0
    assert "complete" in capsys.readouterr().out
    assert (folder / "items.csv").read_text() == "mine"


def test_get_refuses_a_folder_that_lacks_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "u.data").write_text("")
    assert main(["data", "get", "ml-100k", "--root", str(tmp_path)]) == 1
    assert "lacks interactions.csv" in capsys.readouterr().err


def test_an_unknown_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "ml-100", "--root", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "Did you mean 'ml-100k'?" in shown.err
    assert list(tmp_path.iterdir()) == []
