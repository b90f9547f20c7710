from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from peftrec.cli import main


def test_writes_shards_and_says_what(
    trained: Path, toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    words = ["encode", str(trained), str(toy_data / "items.csv"), str(tmp_path / "out"), "--shard-items", "30"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{tmp_path / 'out'}: 40 vectors of ")
    assert "shard 2 of 2: 10 items" in shown.err
    assert len(pl.read_parquet(tmp_path / "out" / "*.parquet")) == 40
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_items"] == 40
    assert main([*words, "--what", "text"]) == 1
    assert "was begun with what=item, not text" in capsys.readouterr().err
