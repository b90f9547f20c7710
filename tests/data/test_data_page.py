"""The page on data names every source and every set that a recipe reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftrec.data import DOWNLOADS, SOURCES

REPOSITORY = Path(__file__).parent.parent.parent
PAGE = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", SOURCES.kinds())
def test_every_source_has_a_section(kind: str) -> None:
    assert f"\n## {kind}\n" in PAGE
    assert f"  kind: {kind}\n" in PAGE


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
