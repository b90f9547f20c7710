"""ials: factors as `implicit` makes them, and users folded in as it would."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.baselines import ials
from peftrec.baselines.ials import IALS, FittedIALS
from peftrec.config import InputError, RecipeError, parse_section
from peftrec.evaluation import evaluate_cases

CONFIG = IALS(factors=6, regularisation=0.3, alpha=7.0, iterations=4, decay=1.0, seed=5)


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    generator = np.random.default_rng(1)
    return [[int(item) for item in generator.integers(0, 30, size=generator.integers(1, 12))] for _ in range(80)]


@pytest.fixture(scope="module")
def dataset(rows: list[list[int]], rows_dataset: Callable[..., Any]) -> Any:
    return rows_dataset(rows, 34)


@pytest.fixture(scope="module")
def fitted(dataset: Any) -> FittedIALS:
    pytest.importorskip("implicit")
    return CONFIG.fit(dataset)


def test_histories_are_folded_in_as_implicit_does(fitted: FittedIALS, rows: list[list[int]]) -> None:
    als = pytest.importorskip("implicit.cpu.als")
    sparse = pytest.importorskip("scipy.sparse")
    width = max(map(len, rows))
    matrix = np.zeros((len(rows), 34), dtype=np.float32)
    for user, row in enumerate(rows):
        matrix[user, row] = 1.0 + CONFIG.alpha
    assert width > CONFIG.factors
    model = als.AlternatingLeastSquares(factors=6, regularization=CONFIG.regularisation, num_threads=1)
    model.item_factors = fitted.tensors()["item_factors"].numpy()
    expected = model.recalculate_user(np.arange(len(rows)), sparse.csr_matrix(matrix))
    # More events than factors are solved in another way than fewer.
    for most in (width, CONFIG.factors):
        short = [user for user, row in enumerate(rows) if len(row) <= most]
        histories = np.array([[-1] * (most - len(rows[user])) + rows[user] for user in short])
        found = fitted.user_vectors(histories).numpy()
        np.testing.assert_allclose(found, expected[short], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_users_solve_the_equations_of_the_source(
    decay: float, fitted: FittedIALS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ials, "_AT_ONCE", 1)  # a user at a time
    factors = fitted.tensors()["item_factors"].double().numpy()
    config = IALS(factors=6, regularisation=0.3, alpha=7.0, decay=decay)
    confidence = np.ones(34)
    confidence[[4, 9, 2]] += 7.0 * np.array([decay**3, decay**1, 1.0])
    liked = (confidence > 1).astype(float)
    left = factors.T @ (confidence[:, None] * factors) + 0.3 * np.eye(6)
    expected = np.linalg.solve(left, factors.T @ (confidence * liked))
    # Item 9 is there twice, and counts at its newest place.
    found = config.from_tensors(fitted.tensors()).user_vectors(np.array([[4, 9, 9, 2], [-1, -1, -1, 3]]))[0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_factors", [6, 150])
def test_old_events_are_there_however_little_they_weigh(num_factors: int) -> None:
    generator = np.random.default_rng(3)
    factors = generator.normal(size=(101, num_factors))
    # .2^99 is 6e-70, which 32 bits take for 0.
    config = IALS(factors=num_factors, regularisation=2.0, alpha=7.0, decay=0.2)
    surplus = 7.0 * np.append(0.2 ** np.arange(99.0, -1.0, -1.0), 0.0)
    there = np.append(np.ones(100), 0.0)
    left = factors.T @ ((1.0 + surplus)[:, None] * factors) + 2.0 * np.eye(num_factors)
    expected = np.linalg.solve(left, factors.T @ ((1.0 + surplus) * there))
    fitted = config.from_tensors({"item_factors": torch.from_numpy(factors).float()})
    np.testing.assert_allclose(fitted.user_vectors(np.arange(100)[None])[0].numpy(), expected, rtol=1e-3, atol=1e-4)


def test_factors_lower_what_is_minimised(dataset: Any, rows: list[list[int]]) -> None:
    pytest.importorskip("implicit")
    liked = np.zeros((len(rows), 34))
    for user, row in enumerate(rows):
        liked[user, row] = 1.0
    width = max(map(len, rows))
    histories = np.array([[-1] * (width - len(row)) + row for row in rows])

    def cost(iterations: int) -> float:
        config = IALS(factors=6, regularisation=0.3, alpha=7.0, iterations=iterations)
        model = config.fit(dataset)
        users, items = model.user_vectors(histories).numpy(), model.vectors_ND.numpy()
        error = (1.0 + 7.0 * liked) * (liked - users @ items.T) ** 2
        return float(error.sum() + 0.3 * ((users**2).sum() + (items**2).sum()))

    found = [cost(iterations) for iterations in (1, 3, 30)]
    assert found[0] > found[1] > found[2]


def test_threads_change_no_bit_and_seeds_do(fitted: FittedIALS, dataset: Any) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = CONFIG.fit(dataset).tensors()["item_factors"]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(again, fitted.tensors()["item_factors"])
    other = IALS(factors=6, regularisation=0.3, alpha=7.0, iterations=4, seed=6).fit(dataset)
    assert not torch.equal(other.tensors()["item_factors"], again)


def test_items_that_never_trained_have_no_factors(fitted: FittedIALS) -> None:
    norms = fitted.tensors()["item_factors"].norm(dim=1)
    assert (norms[30:] == 0).all()
    assert (norms[:30] > 0).all()


def test_blocks_rank_as_whole_rows_do(fitted: FittedIALS, dataset: Any) -> None:
    arguments = (dataset.split.test, dataset.sequences, 34)
    blocks = evaluate_cases(fitted, *arguments, exclude_history=False)
    whole = evaluate_cases(lambda rows: fitted.scores(rows), *arguments, exclude_history=False)
    np.testing.assert_array_equal(blocks.ranks, whole.ranks)


def test_without_implicit_it_says_how_to_get_it(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(InputError, match=r"ials needs implicit; pip install 'peftrec\[baselines\]'"):
        CONFIG.fit(dataset)


def test_a_stored_fit_needs_no_implicit(fitted: FittedIALS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    rows = np.array([[1, 2, 3]])
    assert torch.equal(CONFIG.from_tensors(fitted.tensors()).scores(rows), fitted.scores(rows))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("factors", 0), ("regularisation", 0.0), ("alpha", 0.0), ("iterations", 0), ("decay", 0.0), ("decay", 1.1),
        ("seed", -1),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(key: str, value: float) -> None:
    with pytest.raises(RecipeError, match=rf"baseline\.{key}: .* out of range"):
        parse_section(IALS, {key: value}, path="baseline")
