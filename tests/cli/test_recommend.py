from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftrec.cli import main


def test_prints_rank_score_id_and_title(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["recommend", str(trained), "--history", "wine0, wine1,wine2", "--k", "4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert all(set(row) == {"rank", "score", "item_id", "title"} for row in rows)
    assert not {row["item_id"] for row in rows} & {"wine0", "wine1", "wine2"}
    assert main(["recommend", str(trained), "--history", "wine0,wine1,wine2", "--k", "4"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["rank", "score", "id", "title"] in lines
    for row in rows:
        assert [str(row["rank"]), f"{row['score']:.3f}", row["item_id"], *row["title"].split()] in lines


def test_keep_history(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["recommend", str(trained), "--history", "wine0", "--k", "40", "--json"]
    assert main(words) == 0
    without = {row["item_id"] for row in json.loads(capsys.readouterr().out)}
    assert main([*words, "--keep-history"]) == 0
    kept = {row["item_id"] for row in json.loads(capsys.readouterr().out)}
    assert (len(without), kept - without) == (39, {"wine0"})


def test_an_empty_history_gets_what_is_popular(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["recommend", str(trained), "--history", "", "--k", "2", "--json"]) == 0
    scores = [row["score"] for row in json.loads(capsys.readouterr().out)]
    assert scores == sorted(scores, reverse=True)
    assert all(score == int(score) > 0 for score in scores), "scores are training counts"


def test_an_unknown_id_is_named(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["recommend", str(trained), "--history", "wine0,wien1"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "peftrec: no item has the id 'wien1'. Did you mean 'wine1'?\n"


@pytest.mark.parametrize("history", [",", "wine0,,wine1", "wine0,"])
def test_an_empty_place_in_a_history_is_refused(
    history: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", str(trained), "--history", history])
    assert stopped.value.code == 2
    assert "has an empty place" in capsys.readouterr().err
