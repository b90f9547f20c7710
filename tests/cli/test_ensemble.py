from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from peftrec.cli import main
from peftrec.publishing import EnsembleRun, load_run


@pytest.fixture(scope="module")
def popular(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of popularity on the same data; read only."""
    folder = tmp_path_factory.mktemp("popular")
    assert main(["train", str(write_recipe(folder, "baseline.kind=popularity"))]) == 0
    return folder / "run"


def test_two_runs(trained: Path, popular: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "both"
    words = [str(trained), str(popular), "--output", str(folder), "--weights", "3,1", "evaluation.ks=[5]"]
    capsys.readouterr()
    assert main(["ensemble", *words]) == 0
    shown = capsys.readouterr()
    assert all(word in shown.out for word in ("NDCG@5", "1_run", "2_run", "popularity"))
    assert "members: 1_run, 2_run" in shown.err
    loaded = load_run(folder)
    assert isinstance(loaded, EnsembleRun)
    assert (loaded.fusion.by, loaded.fusion.weights) == ("score", (3.0, 1.0))
    assert main(["ensemble", *words]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["ensemble", *words, "--overwrite", "--by", "rank", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["ensemble"]["by"] == "rank"
    assert metrics == json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert main(["compare", str(folder), str(popular)]) == 1  # other cutoffs
    assert "no metric is in all of them" in capsys.readouterr().err
    assert main(["recommend", str(folder), "--history", "wine0,wine1"]) == 0
    assert main(["evaluate", str(folder), "--json"]) == 0


def test_weights_that_are_none(
    trained: Path, popular: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ensemble", str(trained), str(popular), "--output", str(tmp_path / "both"), "--weights"]
    with pytest.raises(SystemExit) as done:
        main([*words, "a,b"])
    assert done.value.code == 2
    assert "neither 'auto' nor numbers" in capsys.readouterr().err
    assert main([*words, "nan,1"]) == 1
    assert "weight 1 is nan" in capsys.readouterr().err
    assert main(["ensemble", str(trained), "--output", str(tmp_path / "both")]) == 1
    assert "two members or more, got 1" in capsys.readouterr().err
