from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from peftrec.cli import main

TRUNK = "method.layers=1"


@pytest.fixture
def entries(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: sorted(path.name.partition("-")[0] for path in (tmp_path / "cache" / "states").iterdir())


def test_build_list_clear(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    entries: Callable[[], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, folder = str(write_recipe(tmp_path)), tmp_path / "cache"
    override = f"encoder.cache.folder={folder}"
    assert main(["cache", "list", "--folder", str(folder)]) == 0
    assert "no entries" in capsys.readouterr().out
    assert main(["cache", "build", recipe, TRUNK, override]) == 0
    assert "states entering layer 3 of 3: 40 texts" in capsys.readouterr().err
    assert entries() == ["tokens", "trunk", "vectors"]
    # A run of the recipe computes nothing anew.
    assert main(["train", recipe, TRUNK, override, "training.num_epochs=1"]) == 0
    said = capsys.readouterr().err
    assert "written to" not in said
    assert said.count("read from") == 3

    (trunk,) = (folder / "states").glob("trunk-*")
    assert main(["cache", "list", "--folder", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["key", "size", "texts", "dtype", "age", "backbone"]
    row = next(line.split() for line in lines if line.startswith(trunk.name))
    assert row[3:5] == ["40", "float32"]
    assert "tiny_bert" in row[-1]
    content = bytearray((trunk / "states.bin").read_bytes())
    content[50] ^= 1
    (trunk / "states.bin").write_bytes(content)
    assert main(["cache", "list", "--verify", "--folder", str(folder)]) == 0
    assert "broken: states.bin is damaged" in capsys.readouterr().out
    os.truncate(trunk / "states.bin", 10)
    (folder / "states" / f"{trunk.name}.partial").mkdir()
    assert main(["cache", "list", "--folder", str(folder)]) == 0
    listed = capsys.readouterr().out
    assert "broken: states.bin has 10 bytes" in listed
    assert "unfinished" in listed

    assert main(["cache", "clear", trunk.name, "--folder", str(folder)]) == 0
    assert "trunk" in entries()  # the unfinished one
    assert main(["cache", "clear", "--all", "--folder", str(folder)]) == 0
    assert entries() == []


def test_what_cannot_be_built_or_cleared(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(tmp_path))
    for arguments, code, message in (
        (["cache", "build", recipe], 2, "encoder.cache.folder: is null, which keeps nothing"),
        (["cache", "build", recipe, "encoder.inputs=ids", "encoder.embedding_dim=8"], 2, "reads no text"),
        (["cache", "clear"], 2, "name the entries to remove, or pass --all"),
        (["cache", "clear", "trunk-0", "--folder", str(tmp_path)], 1, "holds no entry 'trunk-0'"),
    ):
        assert main(arguments) == code
        assert message in capsys.readouterr().err


def test_build_refuses_other_kinds_by_name(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peftrec.encoders import frozen_state

    monkeypatch.setattr(frozen_state, "TRUNK_KINDS", ("llama",))
    arguments = [str(write_recipe(tmp_path)), TRUNK, f"encoder.cache.folder={tmp_path / 'cache'}"]
    assert main(["cache", "build", *arguments]) == 1
    assert "not stored for backbones of the kind 'bert', as only these kinds" in capsys.readouterr().err
    # Training goes on, and says so.
    assert main(["train", *arguments, "training.num_epochs=1"]) == 0
    assert "the frozen layers run in every step" in capsys.readouterr().err


def test_runs_with_half_precision_are_saved_exact(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    """Saving compares what the run holds with what a fresh object gives."""
    recipe = str(write_recipe(tmp_path))
    overrides = [f"encoder.cache.folder={tmp_path / 'cache'}", "encoder.cache.dtype=float16"]
    assert main(["train", recipe, TRUNK, *overrides]) == 0
    assert (tmp_path / "run" / "metrics.json").is_file()
