"""A recipe file on the toy data, and one run trained through the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.cli import main


@pytest.fixture(scope="session")
def write_recipe(make_recipe: Callable[..., Any]) -> Callable[..., Path]:
    """Write a complete recipe into a folder; its run goes to `run` beside it."""

    def write(folder: Path, *overrides: str, **values: Any) -> Path:
        path = folder / "recipe.yaml"
        recipe = make_recipe(*overrides, output_dir=folder / "run", **values)
        path.write_text(recipe.to_yaml(), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def trained(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; read only."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", str(write_recipe(folder)), "training.num_epochs=1"]) == 0
    return folder / "run"
