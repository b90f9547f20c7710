"""Search spaces: what they hold, what they refuse before anything trains, and where their edges are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import RecipeError
from peftrec.recipe import recipe_with
from peftrec.tuning import read_space
from peftrec.tuning.trial import overrides_of

MakeRecipe = Callable[..., Any]


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_with_the_numbers_of_the_recipe(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    text = """
optimizer.learning_rate: [1e-4, 1e-3]
optimizer.head_learning_rate: {low: 1e-4, high: 1e-1, log: true}
method.rank: {low: 4, high: 12, step: 4}
user.dropout: {low: 0, high: 0.3, step: 0.1}
method.targets: [[query], [query, value]]
"""
    recipe = make_recipe()
    space = read_space(write(tmp_path, text), recipe)
    rates, head, rank, dropout, targets = space.axes
    assert rates.points() == (0.0001, 0.001)
    assert head.plain() == {"low": 1e-4, "high": 1e-1, "log": True}
    assert rank.points() == (4, 8, 12)
    assert all(type(value) is int for value in rank.points())
    assert dropout.points() == (0.0, 0.1, 0.2, 0.3)
    assert targets.points() == (["query"], ["query", "value"])
    assert targets.value(targets.stored(["query", "value"])) == ["query", "value"]
    assert read_space(space.plain(), recipe).axes == space.axes


def test_a_grid_is_every_combination_the_last_key_fastest(make_recipe: MakeRecipe) -> None:
    space = read_space({"user.dropout": [0.0, 0.5], "method.rank": {"low": 2, "high": 4, "step": 2}}, make_recipe())
    points = [tuple(point.values()) for point in space.grid()]
    assert points == [(0.0, 2), (0.0, 4), (0.5, 2), (0.5, 4)]
    assert space.grid(3) == space.grid()[:3]


def test_overrides_say_the_same_values(make_recipe: MakeRecipe) -> None:
    values = {
        "optimizer.learning_rate": 1e-05,
        "method.targets": ["query", "value"],
        "loss": {"kind": "bpr"},
        "optimizer.clip_norm": None,
        "data.template": '{title}: "a", \u2028 é',
        "training.tf32": True,
    }
    recipe = recipe_with(make_recipe(), overrides_of(values))
    assert recipe.optimizer.learning_rate == 1e-05
    assert recipe.method.targets == ("query", "value")
    assert (recipe.loss.kind, recipe.optimizer.clip_norm, recipe.training.tf32) == ("bpr", None, True)
    assert recipe.data.template == values["data.template"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "names no key to search over"),
        ("optimizer.learning_rat: [1e-3]", r"optimizer\.learning_rat: .*no such key.* Did you mean 'learning_rate'"),
        ("optimiser.learning_rate: [1e-3]", r"optimiser\.learning_rate: .*Did you mean 'optimizer'"),
        ("profile.fusion: [add]", "the recipe leaves profile out"),
        ("optimizer: {learning_rate: [1e-3]}", r"optimizer: .*written with dots"),
        ("method.rank: 4", r"method\.rank: expected a list of values"),
        ("method.rank: []", r"method\.rank: the list is empty"),
        ("method.rank: [4, 8, 4]", r"method\.rank: 4 stands twice"),
        ("method.rank: [4, eight]", r"method\.rank: expected a whole number, found 'eight'"),
        ("method.rank: [4, 0]", r"method\.rank: 0 is out of range; it must be >= 1"),
        ("method.rank: {low: 1.5, high: 4}", r"method\.rank\.low: expected a whole number, found 1\.5"),
        ("method.rank: {low: 0, high: 4}", r"method\.rank: 0 is out of range"),
        ("method.rank: {low: 8, high: 4}", r"low 8 is not below high 4"),
        ("method.rank: {low: 4}", r"method\.rank: high is missing"),
        ("method.rank: {low: 4, high: 10, step: 4}", r"end at 8 and not at high 10; use high: 8"),
        ("method.kind: {low: 1, high: 2}", r"method\.kind: takes no numbers"),
        ("optimizer.learning_rate: {low: 0, high: 1, log: true}", r"low: 0\.0 has no logarithm"),
        ("optimizer.learning_rate: {low: 1e-3, high: 1, log: 1}", r"log: expected true or false"),
        ("optimizer.learning_rate: {low: 1e-3, high: 2e-3, step: 1e-3, log: true}", "step and log exclude each other"),
        ("optimizer.learning_rate: {low: 1e-3, high: a}", r"high: expected a number, found 'a'"),
        ("training.seed: [0, 1]", r"training\.seed: may not be searched over: the best seed is the luckiest"),
        ("training.metric: [hr@10]", r"training\.metric: may not be searched over"),
        ("evaluation.exclude_history: [true]", r"evaluation\.exclude_history: may not .* other rules"),
        ("data.split.kind: [ratio]", r"data\.split\.kind: may not .* other data"),
        ("training: [{num_epochs: 3}]", "training: holds training.metric"),
        ("method.rank: [4]\nmethod: [{kind: lora}]", r"method\.rank: lies in method, which is searched over too"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    make_recipe: MakeRecipe, tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RecipeError, match=message) as refused:
        read_space(path, make_recipe())
    assert str(refused.value).startswith(f"{path}: ")


def test_a_key_stands_in_the_space_or_on_the_command_line(make_recipe: MakeRecipe) -> None:
    given = {"method.rank": [2, 4]}
    assert read_space(given, make_recipe(), overridden=["user.dropout=0.1"]).axes
    for override in ("method.rank=8", "method={kind: lora}"):
        with pytest.raises(RecipeError, match=r"method\.rank: is searched over, but .* sets it on the command line"):
            read_space(given, make_recipe(), overridden=[override])


def test_values_may_fit_only_beside_others_but_points_of_a_grid_are_tried_all(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("encoder.inputs=ids", "encoder.head=projection", "encoder.embedding_dim=16")
    space = read_space({"encoder.embedding_dim": [16, 15], "user.num_heads": [2, 3]}, recipe)
    assert space.grid(1) == [{"encoder.embedding_dim": 16, "user.num_heads": 2}]
    space.check_points(recipe, space.grid(1))
    with pytest.raises(RecipeError, match=r"the point encoder\.embedding_dim=16 user\.num_heads=3: user\.num_heads"):
        space.check_points(recipe, space.grid())


def test_a_range_without_step_has_no_grid(make_recipe: MakeRecipe) -> None:
    space = read_space({"user.dropout": {"low": 0.0, "high": 0.5}}, make_recipe())
    with pytest.raises(RecipeError, match=r"user\.dropout: a grid needs a list of values, or a range with step"):
        space.grid()


@pytest.mark.parametrize(
    ("given", "value", "side"),
    [
        ([1e-4, 1e-3], 1e-3, "highest"),
        ([1e-3, 1e-4], 1e-4, "lowest"),
        ([1e-4, 1e-3, 1e-2], 1e-3, None),
        ([1e-3], 1e-3, None),
        ({"low": 1e-5, "high": 1e-1, "log": True}, 1.2e-5, "lowest"),
        ({"low": 1e-5, "high": 1e-1, "log": True}, 2e-5, None),  # ln 2 of ln 10,000: 7.5 % from the edge
        ({"low": 0.1, "high": 1.1}, 1.06, "highest"),
        ({"low": 0.1, "high": 1.1}, 1.04, None),
    ],
)
def test_the_best_value_at_an_edge(make_recipe: MakeRecipe, given: Any, value: float, side: str | None) -> None:
    recipe = make_recipe()
    space = read_space({"optimizer.head_learning_rate": given}, recipe)
    warnings = space.edges(recipe, {"optimizer.head_learning_rate": value})
    assert [f"at the {side} edge" in warning and "widen it" in warning for warning in warnings] == [True] * bool(side)


def test_an_edge_that_the_recipe_sets_is_none(make_recipe: MakeRecipe) -> None:
    """There is nothing to widen below rank 1 or dropout 0, and nothing between words."""
    recipe = make_recipe()
    space = read_space({"method.rank": [1, 2], "user.dropout": [0.0, 0.5], "method.init": ["default", "pissa"]}, recipe)
    assert space.edges(recipe, {"method.rank": 1, "user.dropout": 0.0, "method.init": "default"}) == []
    assert len(space.edges(recipe, {"method.rank": 2, "user.dropout": 0.5, "method.init": "pissa"})) == 2
