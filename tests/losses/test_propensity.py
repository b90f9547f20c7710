"""Propensities and the weights of targets: values by hand, columns, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftrec.config import InputError, RecipeError
from peftrec.data.item_column import read_item_propensities
from peftrec.losses import PropensityConfig, effective_number, item_propensities

# The second item has no training events, and counts as if it had one.
COUNTS = np.array([16, 0, 1, 4])


@pytest.mark.parametrize(
    ("power", "clip", "expected"),
    [
        (0.5, 0.01, [1, 0.25, 0.25, 0.5]),
        (1, 0.01, [1, 1 / 16, 1 / 16, 0.25]),
        (1, 0.2, [1, 0.2, 0.2, 0.25]),
        (0, 0.01, [1, 1, 1, 1]),
        (400, 0.01, [1, 0.01, 0.01, 0.01]),
        (1, 1, [1, 1, 1, 1]),
    ],
)
def test_by_power(power: float, clip: float, expected: list[float]) -> None:
    found = item_propensities(PropensityConfig(power=power, clip=clip), COUNTS)
    assert found.values_N.tolist() == pytest.approx(expected)


def test_without_any_event_all_are_alike() -> None:
    assert item_propensities(PropensityConfig(power=0.5), np.zeros(3, dtype=np.int64)).values_N.tolist() == [1, 1, 1]


def test_by_column() -> None:
    found = item_propensities(PropensityConfig(column="shown", clip=0.1), COUNTS, np.array([0.5, 0.01, 1, 0.1]))
    assert found.values_N.tolist() == [0.5, 0.1, 1, 0.1]


def test_weights_have_the_mean_one_over_training_events() -> None:
    found = item_propensities(PropensityConfig(power=0.5), COUNTS)
    weights = found.target_weights(COUNTS)
    # Events: 16 with 1 / p = 1, 1 with 4, 4 with 2: the mean of 1 / p is 28 / 21.
    assert weights.tolist() == pytest.approx([21 / 28, 4 * 21 / 28, 4 * 21 / 28, 2 * 21 / 28])
    assert np.average(weights, weights=COUNTS) == pytest.approx(1)
    assert item_propensities(PropensityConfig(power=0), COUNTS).target_weights(COUNTS).tolist() == [1] * 4
    # 28^2 / (16 * 1 + 1 * 16 + 4 * 4) = 16.33 of 21.
    assert found.describe(COUNTS) == (
        "propensities: (n / max n)^0.5, at least 0.01; targets weigh 0.75 to 3, as much as 78% of as many equal ones"
    )


def test_effective_number() -> None:
    assert effective_number(np.array([2.0, 2.0, 2.0])) == pytest.approx(3)
    assert effective_number(np.array([1.0, 3.0])) == pytest.approx(16 / 10)
    assert effective_number(np.array([1.0, 3.0]), np.array([3, 1])) == pytest.approx(36 / 12)


@pytest.fixture
def with_column(toy_data: Path, make_recipe: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Write the toy data with a column `shown`, and return the recipe's section that reads them."""

    def write(value: Callable[[int], str]) -> Any:
        (tmp_path / "interactions.csv").write_text((toy_data / "interactions.csv").read_text())
        lines = (toy_data / "items.csv").read_text().splitlines()
        rows = [lines[0] + ",shown", *(f"{line},{value(number)}" for number, line in enumerate(lines[1:]))]
        (tmp_path / "items.csv").write_text("\n".join(rows) + "\n")
        return make_recipe(data=tmp_path).data

    return write


def test_a_column_is_read_for_the_catalogue(with_column: Callable[..., Any]) -> None:
    data = with_column(lambda number: " 0.5 " if number == 0 else "2" if number == 39 else "1e-3")
    found = read_item_propensities(data, "shown", ["wine1", "wine0"], key="k")
    assert found.tolist() == [0.001, 0.5]


@pytest.mark.parametrize("value", ["0", "-0.5", "1.01", "nan", "inf", "much", ""])
def test_values_that_are_no_propensities_are_named(value: str, with_column: Callable[..., Any]) -> None:
    data = with_column(lambda number: "0.5" if number == 0 else value)
    shown = "no value" if value == "" else f"'{value}'"
    message = rf"items\.csv, column 'shown' \(named by debias\.propensity\.column\): item 'wine1' has {shown} \(1 more"
    with pytest.raises(InputError, match=message):
        read_item_propensities(data, "shown", ["wine0", "wine1", "wine2"], key="debias.propensity.column")


def test_an_item_without_a_row_has_no_value(with_column: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"item 'gone' has no value; a propensity is a number above 0 and up to 1"):
        read_item_propensities(with_column(lambda number: "1"), "shown", ["wine0", "gone"], key="k")


def test_a_column_that_is_not_there(with_column: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"no column 'show' \(named by k\)\. Did you mean 'shown'"):
        read_item_propensities(with_column(lambda number: "1"), "show", ["wine0"], key="k")


@pytest.mark.parametrize("section", ["debias", "evaluation"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{}", "propensities come from power or from column; give one of the two"),
        ("{power: 0.5, column: shown}", "give one of the two"),
        ("{power: -0.1}", r"propensity\.power: -0\.1 is out of range"),
        ("{power: .inf}", r"propensity\.power"),
        ("{power: 0.5, clip: 0}", r"propensity\.clip: 0\.0 is out of range"),
        ("{power: 0.5, clip: 1.5}", r"propensity\.clip: 1\.5 is out of range"),
        ("{power: 0.5, clips: 1}", r"propensity\.clips: unknown key"),
    ],
)
def test_sections_that_are_refused(section: str, values: str, message: str, make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(f"{section}.propensity={values}")
