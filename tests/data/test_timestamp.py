from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from peftrec.config import InputError
from peftrec.data.timestamp import parse_numbers, parse_positions, parse_times

MOMENT = 1_700_000_000_000


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (pl.Series(["1700000000", "0"]), "seconds"),
        (pl.Series([1_700_000_000, 0]), "seconds"),
        (pl.Series(["1700000000.0", "0.0"]), "seconds"),
        (pl.Series([1.7e9, 0]), "seconds"),
        (pl.Series([str(MOMENT), "0"]), "milliseconds"),
        (pl.Series([MOMENT * 1000, 0]), "microseconds"),
        (pl.Series([str(MOMENT * 1_000_000), "0"]), "nanoseconds"),
    ],
)
def test_units_are_told_by_magnitude(values: pl.Series, unit: str) -> None:
    times, note = parse_times(values, "t")
    assert times.to_list() == [MOMENT, 0]
    assert times.dtype == pl.Int64
    assert note.startswith(unit)


def test_large_integers_stay_exact() -> None:
    times, _ = parse_times(pl.Series(["1700000000123999999"]), "t")
    assert times.to_list() == [1_700_000_000_123]
    times, _ = parse_times(pl.Series(["1700000000.5"]), "t")
    assert times.to_list() == [1_700_000_000_500]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2023-11-14", 1_699_920_000_000),
        ("2023-11-14T22:13:20Z", MOMENT),
        ("2023-11-14 22:13:20", MOMENT),
        ("2023-11-14 22:13:20.250", MOMENT + 250),
        ("2023-11-15T00:13:20+02:00", MOMENT),
        ("2023-11-14T17:43:20-0430", MOMENT),
        ("1969-12-31T23:59", -60_000),
    ],
)
def test_iso_dates(text: str, milliseconds: int) -> None:
    times, note = parse_times(pl.Series([text, None, ""]), "t")
    assert times.to_list() == [milliseconds, None, None]
    assert "ISO" in note


def test_typed_dates() -> None:
    assert parse_times(pl.Series([date(1970, 1, 2)]), "t")[0].to_list() == [86_400_000]
    aware = pl.Series([datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)])
    assert parse_times(aware, "t")[0].to_list() == [MOMENT]
    assert parse_times(aware.dt.convert_time_zone("Asia/Tokyo"), "t")[0].to_list() == [MOMENT]


@pytest.mark.parametrize(
    ("values", "row", "value"),
    [
        (["1700000000", "yesterday"], 2, "yesterday"),
        (["yesterday", "1700000000"], 1, "yesterday"),
        (["2023-11-14", "14.11.2023"], 2, "14.11.2023"),
        (["2023-11-14", "2023-02-30"], 2, "2023-02-30"),
        (["2023-11-14 25:00"], 1, "2023-11-14 25:00"),
        (["1700000000", "2023-11-14", "1700000000"], 2, "2023-11-14"),
        (["1700000000", "inf"], 2, "inf"),
        (["11/14/2023"], 1, "11/14/2023"),
    ],
)
def test_text_that_is_no_time_names_row_and_value(values: list[str], row: int, value: str) -> None:
    with pytest.raises(InputError, match=f"data row {row} holds '{value}'"):
        parse_times(pl.Series(values), "t")


def test_missing_times_stay_null() -> None:
    assert parse_times(pl.Series(["1700000000", None, "nan", " "]), "t")[0].to_list() == [MOMENT, None, None, None]
    assert parse_times(pl.Series([float("nan"), 1.7e9]), "t")[0].to_list() == [None, MOMENT]
    assert parse_times(pl.Series([None, None], dtype=pl.String), "t")[0].to_list() == [None, None]


def test_mixed_units_are_refused() -> None:
    with pytest.raises(InputError, match=r"mixed units: .*data row 2 holds 1700000000"):
        parse_times(pl.Series([MOMENT, 1_700_000_000]), "t")
    with pytest.raises(InputError, match="too large"):
        parse_times(pl.Series([1e25]), "t")


def test_small_numbers_are_noted() -> None:
    times, note = parse_times(pl.Series(["0", "1", "30"]), "t")
    assert times.to_list() == [0, 1000, 30_000]
    assert "data.timestamps: order" in note
    assert "1970" in note


def test_positions() -> None:
    assert parse_positions(pl.Series(["2", "1", None]), "t").to_list() == [2, 1, None]
    assert parse_positions(pl.Series([0.5, 1]), "t").to_list() == [0.5, 1.0]
    with pytest.raises(InputError, match="data row 2 holds 'second'"):
        parse_positions(pl.Series(["1", "second"]), "t")


def test_numbers() -> None:
    assert parse_numbers(pl.Series(["1", "2"])).dtype == pl.Int64
    assert parse_numbers(pl.Series(["1", " 2.5 ", "x"])).to_list() == [1.0, 2.5, None]
    assert parse_numbers(pl.Series([1, 2], dtype=pl.UInt8)).dtype == pl.Int64


def test_unsigned_numbers_beyond_the_range_are_named() -> None:
    with pytest.raises(InputError, match="t: data row 2 holds 9223372036854775813"):
        parse_times(pl.Series([5, 2**63 + 5], dtype=pl.UInt64), "t")
