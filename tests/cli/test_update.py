from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftrec.cli import main
from peftrec.publishing import load_run

LAST = 1_600_040_000


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with later events of known users, and one new item."""
    folder = tmp_path_factory.mktemp("later")
    rows = ["user_id,item_id,timestamp"]
    for user in range(60):
        for step in range(5):
            item = "wine10" if step == 2 else f"{('wine', 'cheese', 'bread', 'tea')[user % 4]}{(user - step) % 9}"
            rows.append(f"u{user},{item},{LAST + 1000 * step + user}")
    (folder / "later.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "new.csv").write_text("item_id,title,category\nwine10,huge wine,wine\n", encoding="utf-8")
    return folder


def test_an_update(trained: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    words = ["update", str(trained), str(later / "later.csv"), "--items", str(later / "new.csv")]
    words += ["--output", str(folder), "--replay", "0.5", "--force", "training.num_epochs=1"]
    capsys.readouterr()
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "before and after the update, on the same test cases" in shown.out
    assert [line.split()[:2] for line in shown.out.splitlines() if line.split()[:1] in (["new"], ["old"])] == [
        [period, metric] for period in ("new", "old") for metric in ("HR@10", "NDCG@10", "MRR@10")
    ]
    assert "saved to" in shown.err
    assert "wine10" in load_run(folder).catalogue.ids
    assert main(words) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--valid", "0.2", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert (metrics["update"]["replay"], metrics["update"]["valid_fraction"]) == (0.5, 0.2)
    assert main(["evaluate", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["metrics"]["hr@10"] == pytest.approx(
        metrics["test"]["model"]["metrics"]["hr@10"]
    )
    assert main(["recommend", str(folder), "--history", "wine0,wine10"]) == 0


def test_words_that_are_wrong(trained: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["update", str(trained), str(later / "later.csv"), "--output", str(tmp_path / "new")]
    assert main([*words, "--replay", "2"]) == 2
    assert "replay: must lie from 0 to 1, got 2" in capsys.readouterr().err
    assert main([*words, "--valid", "0.5", "--test", "0.5"]) == 2
    assert "valid_fraction + test_fraction must be below 1" in capsys.readouterr().err
    assert main([*words, "method.kind=frozen"]) == 2
    assert "the rest is what was trained" in capsys.readouterr().err
    assert main(words) == 1
    assert "name a table with their texts in --items" in capsys.readouterr().err
    assert main(["update", str(tmp_path / "gone"), *words[2:]]) == 1
    assert "there is no such run folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main(words[:3])
    assert done.value.code == 2
    assert not list(tmp_path.iterdir())
