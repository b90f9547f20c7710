"""Runs that exports are made of, each trained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.publishing.export import EXPORTS, export_run
from peftrec.run import train


@pytest.fixture(scope="session")
def runs(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a run, once for each set of overrides; read only."""
    made: dict[tuple[str, ...], Path] = {}

    def run(*overrides: str) -> Path:
        if overrides not in made:
            folder = tmp_path_factory.mktemp("run") / "run"
            train(make_recipe("training.num_epochs=1", *overrides, output_dir=folder))
            made[overrides] = folder
        return made[overrides]

    return run


@pytest.fixture(scope="session")
def export() -> Callable[..., dict[str, Any]]:
    """Export a run to a target with options."""

    def make(run: Path, output: Path, kind: str, **options: Any) -> dict[str, Any]:
        return export_run(run, output, EXPORTS.load(kind)(**options))

    return make


@pytest.fixture(scope="session")
def prefixed(backbones: dict[str, Path]) -> Callable[[str], tuple[str, str]]:
    """The overrides of a LoRA run on a backbone, with a prefix before every text."""
    return lambda family: (f"encoder.backbone={backbones[family]}", "encoder.prefix='tea: '")
