"""Popularity, of all training events and of the newest, counted by hand."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec import evaluate
from peftrec.baselines.popularity import Popularity
from peftrec.config import RecipeError, parse_section
from peftrec.publishing import load_run
from peftrec.publishing.folder_reader import plain_recipe
from peftrec.publishing.manifest import file_table, read_manifest
from peftrec.run import train

NOBODY = np.array([[-1]])
# Who had what in training; item 4 comes last for all, and is no training event.
ROWS = [[0, 0, 0, 1], [0, 2], [1, 2, 3]]
TIMES = [[1, 2, 3, 9], [8, 10], [4, 5, 6]]


def counts(dataset: Any, window: float) -> list[float]:
    found: list[float] = Popularity(window=window).fit(dataset).scores(NOBODY)[0].tolist()
    return found


def test_all_training_events_count_by_default(rows_dataset: Callable[..., Any]) -> None:
    for times in (None, TIMES):
        dataset = rows_dataset(ROWS, 5, times)
        assert counts(dataset, 1.0) == [4, 2, 2, 1, 0]
        assert Popularity().fit(dataset).scores(NOBODY)[0].tolist() == dataset.item_counts().tolist()
    assert Popularity() == Popularity(window=1.0)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (0.01, [0, 0, 1, 0, 0]),  # the latest alone: item 2 at 10
        (2 / 9, [0, 1, 1, 0, 0]),  # and item 1 at 9
        (3 / 9, [1, 1, 1, 0, 0]),  # and item 0 at 8
        (0.34, [1, 1, 1, 1, 0]),  # 3.06 events are four: and item 3 at 6
        (8 / 9, [3, 2, 2, 1, 0]),
    ],
)
def test_with_times_the_latest_events_count(
    window: float, expected: list[float], rows_dataset: Callable[..., Any]
) -> None:
    assert counts(rows_dataset(ROWS, 5, TIMES), window) == expected


def test_a_whole_number_of_events_is_not_rounded_up(rows_dataset: Callable[..., Any]) -> None:
    dataset = rows_dataset([[0] * 93 + [1] * 7], 3, [list(range(100))])
    assert 0.07 * 100 > 7
    assert counts(dataset, 0.07) == [0, 7, 0]


def test_events_of_one_time_count_together(rows_dataset: Callable[..., Any]) -> None:
    dataset = rows_dataset([[0, 1], [2, 3]], 5, [[1, 7], [7, 7]])
    assert counts(dataset, 0.25) == counts(dataset, 0.75) == [0, 1, 1, 1, 0]
    assert counts(dataset, 0.8) == [1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (0.01, [0, 1, 1, 1, 0]),  # the last of each user
        (3 / 9, [0, 1, 1, 1, 0]),
        (0.34, [2, 1, 2, 1, 0]),  # and the second to last
        (7 / 9, [3, 2, 2, 1, 0]),  # and the third to last
    ],
)
def test_with_an_order_the_last_of_each_user_count(
    window: float, expected: list[float], rows_dataset: Callable[..., Any]
) -> None:
    assert counts(rows_dataset(ROWS, 5), window) == expected


def test_users_who_do_not_train_count_nowhere(rows_dataset: Callable[..., Any]) -> None:
    for times in (None, [[], [5], []]):
        assert counts(rows_dataset([[], [1], []], 3, times), 0.5) == [0, 1, 0]
    assert counts(rows_dataset([[], []], 3), 0.5) == [0, 0, 0]


def test_everyone_gets_the_same(rows_dataset: Callable[..., Any]) -> None:
    scores = Popularity(window=0.3).fit(rows_dataset(ROWS, 5)).scores(np.array([[-1, -1], [0, 1], [-1, 3]]))
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


@pytest.mark.parametrize("window", [0.0, -0.5, 1.5])
def test_a_window_that_is_no_share_is_refused(window: float) -> None:
    with pytest.raises(RecipeError, match=r"baseline\.window: .* out of range"):
        parse_section(Popularity, {"window": window}, path="baseline")


def test_a_window_reads_times_and_all_events_do_not(make_recipe: Callable[..., Any], tmp_path: Any) -> None:
    assert not make_recipe("baseline.kind=popularity").reads_times
    recipe = make_recipe("baseline={kind: popularity, window: 0.3}", output_dir=tmp_path / "run")
    assert recipe.reads_times
    # The recipe's own user encoder needs no times; an order will do as well.
    assert make_recipe("baseline={kind: popularity, window: 0.3}", "data.timestamps=order").reads_times
    metrics = train(recipe)
    assert metrics["test"]["model"]["metrics"] != metrics["test"]["popularity"]["metrics"]
    assert load_run(tmp_path / "run").recipe.baseline == Popularity(window=0.3)


def test_a_run_from_before_there_was_a_window_still_loads(make_recipe: Callable[..., Any], tmp_path: Any) -> None:
    metrics = train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "run"))
    path = tmp_path / "run" / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    older = re.sub(r"(, |\n *)window: 1\.0", "", text)
    assert older != text
    assert "kind: popularity" in older
    manifest = read_manifest(tmp_path / "run")
    path.write_text(older, encoding="utf-8")
    changed = {"files": file_table(tmp_path / "run"), "recipe": plain_recipe(path)}
    dataclasses.replace(manifest, **changed).write(tmp_path / "run")
    assert load_run(tmp_path / "run").recipe.baseline == Popularity()
    assert evaluate(tmp_path / "run")["model"] == metrics["test"]["model"]
