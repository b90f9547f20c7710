"""item_knn against values worked out by hand, and against its definition one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peftrec.baselines import item_to_item
from peftrec.baselines.item_knn import ItemKNN
from peftrec.config import InputError, RecipeError, parse_section

# Items 0 and 1 share two of three users each; 2 has one user, who had 0 too; nobody has 3 and 4.
ROWS = [[0, 1], [1, 0, 1], [0, 2], [1]]


def scores(dataset: Any, config: ItemKNN, *history: int) -> list[float]:
    found: list[float] = config.fit(dataset).scores(np.array([history]))[0].tolist()
    return found


def test_cosines_by_hand(rows_dataset: Callable[..., Any]) -> None:
    dataset, plain = rows_dataset(ROWS, 5), ItemKNN(user_weights="equal", shrinkage=0.0, decay=1.0)
    assert scores(dataset, plain, 0) == pytest.approx([0, 2 / 3, 1 / math.sqrt(3), 0, 0])
    assert scores(dataset, plain, 1) == pytest.approx([2 / 3, 0, 0, 0, 0])
    assert scores(dataset, plain, 2, 1) == pytest.approx([2 / 3 + 1 / math.sqrt(3), 0, 0, 0, 0])


def test_shrinkage_takes_half_at_as_many_users_in_common(rows_dataset: Callable[..., Any]) -> None:
    dataset = rows_dataset(ROWS, 5)
    expected = [0, 2 / 3 * 2 / 4, 1 / math.sqrt(3) * 1 / 3, 0, 0]
    assert scores(dataset, ItemKNN(user_weights="equal", shrinkage=2.0), 0) == pytest.approx(expected)


def test_a_decay_weighs_what_is_older_less(rows_dataset: Callable[..., Any]) -> None:
    config = ItemKNN(user_weights="equal", shrinkage=0.0, decay=0.5)
    expected = [0.5 * 2 / 3, 2 / 3, 1 / math.sqrt(3), 0, 0]
    assert scores(rows_dataset(ROWS, 5), config, 1, 0) == pytest.approx(expected)
    # Twice in the history, it counts at its newest place.
    assert scores(rows_dataset(ROWS, 5), config, 0, 1, 0) == pytest.approx(expected)


def test_who_has_everything_says_little_by_idf(rows_dataset: Callable[..., Any]) -> None:
    dataset = rows_dataset([[0, 1], [0, 1, 2, 3], [1]], 5)
    pair, every, one = (math.log(1 + 5 / number) ** 2 for number in (2, 4, 1))
    expected = (pair + every) / math.sqrt((pair + every) * (pair + every + one))
    found = scores(dataset, ItemKNN(shrinkage=0.0, user_weights="idf"), 0)
    assert found[1] == pytest.approx(expected)
    assert found[2] == pytest.approx(math.sqrt(every / (pair + every)))
    assert scores(dataset, ItemKNN(user_weights="equal", shrinkage=0.0), 0)[2] == pytest.approx(1 / math.sqrt(2))


def test_of_equal_neighbours_the_first_of_the_catalogue_is_kept(rows_dataset: Callable[..., Any]) -> None:
    dataset = rows_dataset([[0, 1, 2, 3]], 5)
    assert scores(dataset, ItemKNN(num_neighbours=2, shrinkage=0.0, decay=1.0), 3) == pytest.approx([1, 1, 0, 0, 0])
    assert scores(dataset, ItemKNN(num_neighbours=99, shrinkage=0.0), 3) == pytest.approx([1, 1, 1, 0, 0])


def reference(rows: list[list[int]], num_items: int, config: ItemKNN, history: list[int]) -> NDArray[np.float64]:
    users = [{user for user, row in enumerate(rows) if item in row} for item in range(num_items)]
    weight = [1.0 if config.user_weights == "equal" else math.log(1 + num_items / max(1, len(set(r)))) for r in rows]
    likeness = np.zeros((num_items, num_items))
    for j in range(num_items):
        for i in range(num_items):
            both = users[i] & users[j]
            if i != j and both:
                lengths = [math.sqrt(sum(weight[user] ** 2 for user in users[item])) for item in (i, j)]
                cosine = sum(weight[user] ** 2 for user in both) / math.prod(lengths)
                likeness[j, i] = cosine * len(both) / (len(both) + config.shrinkage)
        rest = np.argsort(-likeness[j].astype(np.float32), kind="stable")[config.num_neighbours :]
        likeness[j, rest] = 0.0
    found = np.zeros(num_items)
    seen: set[int] = set()
    for age, item in enumerate(reversed(history)):
        if item not in seen:
            found += config.decay**age * likeness[item]
        seen.add(item)
    return found


@pytest.mark.parametrize(
    "config",
    [
        ItemKNN(),
        ItemKNN(num_neighbours=4, shrinkage=0.0, user_weights="equal", decay=1.0),
        ItemKNN(num_neighbours=6, shrinkage=2.5, user_weights="idf", decay=0.6),
    ],
)
def test_is_the_definition(config: ItemKNN, rows_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_to_item, "_AT_ONCE", 16)  # several parts
    generator = np.random.default_rng(4)
    rows = [[int(item) for item in generator.integers(0, 12, size=generator.integers(1, 7))] for _ in range(25)]
    fitted = config.fit(rows_dataset(rows, 14))
    for history in ([3], [5, 1, 5, 9], list(range(13))):
        found = fitted.scores(np.array([history]))[0].numpy()
        np.testing.assert_allclose(found, reference(rows, 14, config, history), rtol=1e-5, atol=1e-6)


def test_only_columns_that_some_item_fills_are_stored(rows_dataset: Callable[..., Any]) -> None:
    tensors = ItemKNN().fit(rows_dataset(ROWS, 5)).tensors()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {"items": (5, 2), "values": (5, 2)}


def test_nothing_to_train_on_scores_nothing(rows_dataset: Callable[..., Any]) -> None:
    assert scores(rows_dataset([[], []], 4), ItemKNN(), 0, 3) == [0, 0, 0, 0]


def test_stored_state_that_cannot_be_is_refused() -> None:
    items, values = torch.zeros(4, 2, dtype=torch.int32), torch.ones(4, 2)
    with pytest.raises(InputError, match=r"must have one shape, got \(4, 2\) and \(4, 3\)"):
        ItemKNN().from_tensors({"items": items, "values": torch.ones(4, 3)})
    for wrong in (4, -1):
        with pytest.raises(InputError, match="must hold items 0 to 3"):
            ItemKNN().from_tensors({"items": torch.full_like(items, wrong), "values": values})


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_neighbours", 0), ("shrinkage", -1.0), ("decay", 0.0), ("decay", 1.1), ("user_weights", "bm25")],
)
def test_settings_that_cannot_be_are_refused(key: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"baseline\.{key}: "):
        parse_section(ItemKNN, {key: value}, path="baseline")
