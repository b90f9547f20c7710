"""Runs trained once, and copies of them to damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def trained(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished LoRA run with text and ids on the toy data."""
    from peftrec.run import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    overrides = ("encoder.inputs=text+ids", "encoder.item_bias=true", "method.layers=2", "training.num_epochs=2")
    train(make_recipe(*overrides, output_dir=folder))
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))
