"""ease against its closed form in float64, and against what that form is the minimum of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peftrec.baselines import ease
from peftrec.baselines.ease import EASE, regularised_inverse
from peftrec.baselines.interaction import Interactions
from peftrec.config import InputError, RecipeError, parse_section


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    generator = np.random.default_rng(1)
    # Of 15 items the last three never train.
    return [[int(item) for item in generator.integers(0, 12, size=generator.integers(1, 8))] for _ in range(40)]


def dense(rows: list[list[int]], num_items: int) -> NDArray[np.float64]:
    matrix = np.zeros((len(rows), num_items))
    for user, row in enumerate(rows):
        matrix[user, row] = 1.0
    return matrix


def published(rows: list[list[int]], num_items: int, regularisation: float) -> NDArray[np.float64]:
    matrix = dense(rows, num_items)
    inverse = np.linalg.inv(matrix.T @ matrix + regularisation * np.eye(num_items))
    weights: NDArray[np.float64] = np.eye(num_items) - inverse / np.diag(inverse)
    return weights


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("regularisation", [0.5, 20.0])
def test_is_the_closed_form(
    precision: torch.dtype,
    regularisation: float,
    rows: list[list[int]],
    rows_dataset: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ease, "_MOST_ERROR", {torch.float32: np.inf, torch.float64: 0.0}[precision])
    monkeypatch.setattr(ease, "_ROWS", 5)
    fitted = EASE(regularisation=regularisation, decay=1.0, num_kept=99).fit(rows_dataset(rows, 15))
    weights = published(rows, 15, regularisation)
    for history in ([3], [0, 7, 11], [2, 2, 2]):
        found = fitted.scores(np.array([history]))[0].numpy()
        np.testing.assert_allclose(found, weights[sorted(set(history))].sum(axis=0), atol=1e-5)


def test_nothing_else_gives_the_training_back_better(rows: list[list[int]], rows_dataset: Callable[..., Any]) -> None:
    """|X - X B|^2 + r |B|^2 over matrices with nothing on the diagonal has its only minimum here."""
    matrix, r = dense(rows, 15), 3.0

    def cost(weights: NDArray[np.float64]) -> float:
        return float(((matrix - matrix @ weights) ** 2).sum() + r * (weights**2).sum())

    fitted = EASE(regularisation=r, decay=1.0, num_kept=15).fit(rows_dataset(rows, 15))
    own = fitted.scores(np.arange(15)[:, None]).double().numpy()
    assert np.diag(own) == pytest.approx(0.0)
    generator = np.random.default_rng(2)
    for _ in range(20):
        moved = generator.normal(size=own.shape) * 0.01
        np.fill_diagonal(moved, 0.0)
        assert cost(own + moved) > cost(own)


def test_a_decay_weighs_rows(rows: list[list[int]], rows_dataset: Callable[..., Any]) -> None:
    weights = published(rows, 15, 5.0)
    fitted = EASE(regularisation=5.0, decay=0.5, num_kept=15).fit(rows_dataset(rows, 15))
    found = fitted.scores(np.array([[4, 9, 1, 9]]))[0].numpy()
    np.testing.assert_allclose(found, weights[9] + 0.5 * weights[1] + 0.125 * weights[4], atol=1e-5)


def test_of_each_row_the_largest_values_are_kept(rows: list[list[int]], rows_dataset: Callable[..., Any]) -> None:
    weights = published(rows, 15, 5.0)
    fitted = EASE(regularisation=5.0, num_kept=3).fit(rows_dataset(rows, 15))
    assert tuple(fitted.tensors()["items"].shape) == (15, 3)
    for item in range(12):
        small = np.argsort(-np.abs(weights[item]), kind="stable")[3:]
        expected = weights[item].copy()
        expected[small] = 0.0
        np.testing.assert_allclose(fitted.scores(np.array([[item]]))[0].numpy(), expected, atol=1e-5)


def test_float64_is_used_where_float32_would_not_be_close(
    rows: list[list[int]], rows_dataset: Callable[..., Any]
) -> None:
    pairs = Interactions.of(rows_dataset(rows, 15)).of_trained_items()[0]
    largest = max(dense(rows, 12).T @ dense(rows, 12) @ np.ones(12))
    edge = largest / (1e-4 * 2**24 - 1)
    assert EASE(regularisation=edge * 1.01)._dtype(pairs) == torch.float32
    assert EASE(regularisation=edge * 0.99)._dtype(pairs) == torch.float64
    exact = np.linalg.inv(dense(rows, 12).T @ dense(rows, 12) + edge * np.eye(12))
    for dtype, most in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        error = np.abs(regularised_inverse(pairs, edge, dtype).double().numpy() - exact).max()
        assert error <= most * np.abs(exact).max()


def test_too_large_a_matrix_is_refused_before_the_work(
    rows: list[list[int]], rows_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the 12 items that train are in the matrix: two of 12 * 12 * 4 bytes.
    needed = 2 * 12 * 12 * 4 / 2**20
    EASE(max_memory_mib=needed).fit(rows_dataset(rows, 15))
    monkeypatch.setattr(ease, "regularised_inverse", lambda *_: pytest.fail("worked"))
    with pytest.raises(InputError, match=r"12 x 12 .* takes 0 MiB in float32; baseline\.max_memory_mib is 0"):
        EASE(max_memory_mib=needed * 0.99).fit(rows_dataset(rows, 15))
    wide = rows_dataset([list(range(3000))], 3001)
    with pytest.raises(InputError, match=r"3,000 x 3,000 .* takes 69 MiB in float32; baseline\.max_memory_mib is 50"):
        EASE(max_memory_mib=50.0).fit(wide)


def test_nothing_to_train_on_scores_nothing(rows_dataset: Callable[..., Any]) -> None:
    assert EASE().fit(rows_dataset([[], []], 4)).scores(np.array([[0, 3]])).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("key", "value"),
    [("regularisation", 0.0), ("decay", 0.0), ("decay", 1.1), ("num_kept", 0), ("max_memory_mib", 0.0)],
)
def test_settings_that_cannot_be_are_refused(key: str, value: float) -> None:
    with pytest.raises(RecipeError, match=rf"baseline\.{key}: .* out of range"):
        parse_section(EASE, {key: value}, path="baseline")
