from __future__ import annotations

from pathlib import Path

import pytest

from peftrec.benchmark.suite import read_suite
from peftrec.config import RecipeError


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials: 2", "trials: 0", "trials: 0 is out of range"),
        ("trials: 2", "trails: 2", "trails: unknown key. Did you mean 'trials'?"),
        ("methods: [popularity]", "methods: [popularty]", "groups[0].methods: unknown 'popularty'. Did you mean"),
        ("methods: [popularity]", "methods: [popularity, popularity]", "groups[0].methods: popularity stands twice"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "groups[1].seeds: 0 stands twice"),
        ("seeds: [0, 1]", "seeds: []", "groups[1].seeds: is empty"),
        ("seeds: [0, 1]", "seeds: [-1]", "groups[1].seeds[0]: -1 is out of range"),
        ("seeds: [0, 1]", "backbones: [bert]", "groups[1].backbones: unknown 'bert'. Backbones: none"),
        ("label: popularity", "label: item-kNN", "methods.popularity.label: 'item-kNN' is that of item_knn too"),
        ("label: popularity", "label: ' '", "methods.popularity.label: ' ' is no line that a table could show"),
        ("label: popularity", 'label: "a\\nb"', "methods.popularity.label: 'a\\nb' is no line"),
        ("  popularity:\n", "  Popularity:\n", "methods: 'Popularity' becomes part of files' names"),
        ("datasets: [toy], methods: [popularity]", "datasets: [toy], methods: [item_knn]", "methods.popularity: no"),
        ("trials: 2", "trials: 2\nbackbones: {bert: {}}", "backbones.bert: no group names it"),
        ("seeds: [0, 1]", "tuned_on: beauty", "groups[1].datasets: unknown 'beauty'"),
        ("    label: popularity\n", "    label: popularity\n    recipes: {toi: x}\n", "methods.popularity.recipes: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(suite_path: Path, old: str, new: str, message: str) -> None:
    text = suite_path.read_text(encoding="utf-8")
    assert old in text
    suite_path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read_suite(suite_path)
    assert str(caught.value).startswith(f"{suite_path}: {message}"), caught.value


def test_the_name_of_the_file_is_that_of_the_suite(suite_path: Path) -> None:
    other = suite_path.rename(suite_path.with_name("My suite.yaml"))
    with pytest.raises(RecipeError, match="its name becomes that of the suite"):
        read_suite(other)
