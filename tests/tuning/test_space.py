"""Spaces: what a file may say, and what is told where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import RecipeError
from peftrec.recipe import Recipe, recipe_with
from peftrec.tuning import Choices, Span, read_space
from peftrec.tuning.space import as_overrides


@pytest.fixture(scope="module")
def recipe(make_recipe: Callable[..., Any]) -> Recipe:
    made: Recipe = make_recipe("method.layers=2")
    return made


def test_choices_and_ranges_are_read(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "optimizer.learning_rate: {low: 1e-5, high: 1e-2, log: true}\n"
        "method.rank: [4, 8, 16]\n"
        "encoder.dropout: {low: 0.0, high: 0.5, step: 0.1}\n"
        "method: [{kind: lora, layers: 2}, {kind: frozen}]\n"
    )
    space = read_space(path, recipe)
    assert space.axes["optimizer.learning_rate"] == Span(1e-5, 1e-2, log=True)
    assert space.axes["method.rank"] == Choices((4, 8, 16))
    assert space.size is None
    assert read_space(space.to_dict(), recipe) == space


def test_a_grid_is_visited_last_axis_first(recipe: Recipe) -> None:
    space = read_space({"method.rank": [4, 8], "encoder.dropout": [0.1, 0.2]}, recipe)
    assert space.size == 4
    assert [tuple(point.values()) for point in space.points()] == [(4, 0.1), (4, 0.2), (8, 0.1), (8, 0.2)]


def test_overrides_give_the_very_values_back(recipe: Recipe) -> None:
    values = {"optimizer.learning_rate": 1.2345678901234567e-05, "method": {"kind": "lora", "rank": 3, "layers": 1}}
    made = recipe_with(recipe, as_overrides(values))
    assert made.optimizer.learning_rate == 1.2345678901234567e-05
    assert (made.method.kind, made.method.layers) == ("lora", 1)


def test_another_method_has_its_own_rate(recipe: Recipe) -> None:
    made = recipe_with(recipe, as_overrides({"method": {"kind": "bitfit"}}))
    assert made.optimizer.learning_rate == made.method.default_learning_rate


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"method.ranc": [4, 8]}, r"space: method\.ranc: .*ranc.*rank"),
        ({"method.rank": [4, "many"]}, r"space: method\.rank: .*many"),
        ({"method.rank": [4, 0]}, r"space: method\.rank: "),
        ({"method.rank": []}, r"space: method\.rank: is empty"),
        ({"method.rank": [4, 4]}, r"space: method\.rank: a choice stands there twice"),
        ({"method.rank": 4}, r"space: method\.rank: is 4; it must be a list"),
        ({"encoder.dropout": {"low": 0.0}}, r"it must be a list of values, or a range"),
        ({"encoder.dropout": {"low": 0.5, "high": 0.1}}, r"low must be below high, got 0\.5 and 0\.1"),
        ({"encoder.dropout": {"low": 0.0, "high": 0.5, "log": True}}, r"log needs low above 0"),
        ({"encoder.dropout": {"low": 0.0, "high": 0.5, "steps": 2}}, r"unknown key 'steps'"),
        ({"encoder.dropout": {"low": 0.0, "high": 0.5, "step": 2}}, r"step must be above 0 and at most 0\.5, got 2"),
        ({"encoder.dropout": {"low": 0.0, "high": 1.5}}, r"encoder\.dropout: .*1\.5"),
        ({"encoder.dropout": {"low": "0", "high": 1}}, r"must be numbers"),
        ({"data.split": [{"kind": "ratio"}]}, r"data\.split: may not vary"),
        ({"evaluation.ks": [[5], [10]]}, r"evaluation\.ks: may not vary"),
        ({}, r"space: is empty"),
    ],
)
def test_what_is_wrong_is_named(recipe: Recipe, axis: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_space(axis, recipe)


def test_edges_are_told_of_ordered_numbers(recipe: Recipe) -> None:
    space = read_space(
        {"method.rank": [4, 8, 16], "encoder.dropout": {"low": 0.0, "high": 0.5}, "user.num_layers": [1, 2]}, recipe
    )
    assert space.edges({"method.rank": 16, "encoder.dropout": 0.2, "user.num_layers": 2}) == [
        "method.rank: 16 is the highest value tried"
    ]
    assert space.edges({"method.rank": 8, "encoder.dropout": 0.0, "user.num_layers": 1}) == [
        "encoder.dropout: 0.0 is the lowest value tried"
    ]
