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
    assert all(set(row) == {"rank", "score", "item_id", "title", "source"} for row in rows)
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


def test_lists_for_a_table(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    table, output = tmp_path / "users.csv", tmp_path / "lists.jsonl"
    table.write_text('user_id,history\na,"wine0,wine1"\nb,\n', encoding="utf-8")
    words = ["recommend", str(trained), "--histories", str(table), "--output", str(output), "--k", "2"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert f"{output}: 4 entries for 2 users" in shown.out
    assert "1 users without history get the items with the most training events" in shown.out
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(row["user_id"], row["rank"]) for row in rows] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--json"]) == 0
    counts = {"output": str(output), "users": 2, "rows": 4, "without_history": 1}
    assert json.loads(capsys.readouterr().out) == counts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--histories", "users.csv"], "go together"),
        (["--history", "wine0", "--output", "lists.jsonl"], "go together"),
        (["--histories", "users.csv", "--output", "x.jsonl", "--times", "1"], "times is a column of the table"),
        (
            ["--histories", "u.csv", "--output", "x.jsonl", "--user-attributes", "{}"],
            "attributes of users are columns of",
        ),
        (["--histories", "users.csv", "--history", "wine0"], "not allowed with argument"),
    ],
)
def test_words_that_do_not_go_together(
    words: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", str(trained), *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_lists_can_be_explained(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recommend", str(trained), "--history", "wine0,wine1", "--k", "2", "--explain"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in lines if line.endswith(".")] == ["1.", "2."]
    assert main([*words, "--words", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        assert row["explanation"]["item_id"] == row["item_id"]
        assert row["explanation"]["score"] == pytest.approx(row["score"], abs=1e-4)
        assert {event["item_id"] for event in row["explanation"]["evidence"]} == {"wine0", "wine1"}
        assert row["explanation"]["words"]


@pytest.mark.parametrize(
    "words",
    [["--history", "wine0", "--words"], ["--histories", "x.csv", "--output", "y.jsonl", "--explain"]],
)
def test_explanations_are_asked_for_whole(trained: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", str(trained), *words])
    assert stopped.value.code == 2
