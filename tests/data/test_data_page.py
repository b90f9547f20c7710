"""The page on data names every source and every set that a recipe reads."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from peftrec.data import DOWNLOADS, SOURCES, DataConfig

REPOSITORY = Path(__file__).parent.parent.parent
PAGE = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", SOURCES.kinds())
def test_every_source_has_a_section(kind: str) -> None:
    assert f"\n## {kind}\n" in PAGE
    assert f"  kind: {kind}\n" in PAGE


@pytest.mark.parametrize("key", [field.name for field in fields(DataConfig)])
def test_every_key_that_sources_share_is_named(key: str) -> None:
    assert f"`{key}`" in PAGE.partition("\n## ")[0]


@pytest.mark.parametrize(
    "folder", sorted(path.name for path in (REPOSITORY / "recipes").iterdir() if path.name != "accelerate")
)
def test_every_folder_of_recipes_has_a_row(folder: str) -> None:
    assert f"| `{folder}/" in PAGE


@pytest.mark.parametrize("name", DOWNLOADS)
def test_everything_that_can_be_fetched_is_there(name: str) -> None:
    assert f"`peftrec data get {name}`" in PAGE


def test_the_readme_links_to_it() -> None:
    assert "(docs/data.md)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
