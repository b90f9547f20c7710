"""Time columns: numbers in any of the usual units, or ISO 8601 dates, to milliseconds since 1970."""

from __future__ import annotations

import polars as pl

from peftrec.config import InputError

# The largest magnitude that is still read in the unit (seconds up to the year 5138), and milliseconds a unit.
_UNITS = (
    ("seconds", 1e11, 1e3),
    ("milliseconds", 1e14, 1.0),
    ("microseconds", 1e17, 1e-3),
    ("nanoseconds", 1e20, 1e-6),
)
EARLIEST_LIKELY_MS = 100_000_000_000  # March 1973: a column that ends before it is rather a position than a time
_WANTED = (
    "a time must be a number (seconds, milliseconds or microseconds since 1970) or ISO 8601 like 2024-05-01T10:30:00Z"
)
_ISO = (
    r"^(?<day>\d{4}-\d{2}-\d{2})(?:[T ](?<hour>\d{2}):(?<minute>\d{2})(?::(?<second>\d{2}(?:\.\d+)?))?"
    r"(?<zone>Z|(?<sign>[+-])(?<zone_hour>\d{2}):?(?<zone_minute>\d{2}))?)?$"
)


def parse_times(values: pl.Series, name: str, wanted: str = _WANTED, *, row: str = "data row") -> tuple[pl.Series, str]:
    """A time column in milliseconds since 1970 (UTC).

    Numbers: the unit is told by the largest magnitude in the column (below 1e11 seconds, below 1e14 milliseconds,
    below 1e17 microseconds, else nanoseconds). Text that is no number must be ISO 8601 ('2024-05-01',
    '2024-05-01T10:30:00Z', '… 10:30:00.5+02:00'; without an offset it is UTC). Null and NaN stay null.

    Args:
        values: the column as the file gave it.
        name: the table and column, for messages.
        wanted: what would be right, for the message about a value that is neither.
        row: what a value's place is called in messages.
    Returns:
        Int64 milliseconds, and a sentence for the report on what was read.
    Raises:
        InputError: naming the first row (the first data row is 1) that is neither, or that is of another unit than
            the rest.
    """
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return values.dt.epoch("ms"), "dates, read as milliseconds"
    numbers = parse_numbers(values)
    bad = _first_unread(values, numbers)
    if bad is None:
        return _in_milliseconds(numbers, name, row)
    if values.dtype == pl.String:
        dates = _parse_iso(values)
        bad_date = _first_unread(values, dates)
        if bad_date is None:
            return dates, "ISO 8601 dates, read as milliseconds (UTC where they name no offset)"
        bad = bad if numbers.count() > dates.count() else bad_date
    raise InputError(f"{name}: {row} {bad + 1:,} holds {values[bad]!r}; {wanted}")


def parse_positions(values: pl.Series, name: str) -> pl.Series:
    """An order column (`data.timestamps: order`): any numbers; only their order within a user counts.

    Args:
        values: the column as the file gave it.
        name: the table and column, for the message.
    Returns:
        Int64 or Float64 positions; null and NaN are null.
    Raises:
        InputError: naming the first row whose value is no number.
    """
    numbers = parse_numbers(values)
    refuse_unread(
        values, numbers, name, "data.timestamps: order needs a number in every row, or no such column for file order"
    )
    return numbers


def parse_numbers(values: pl.Series) -> pl.Series:
    """A column as Int64 where every value is a whole number, else Float64; what is no number, NaN included, is null."""
    if values.dtype.is_integer():
        return values.cast(pl.Int64, strict=False)
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
        return pl.repeat(None, len(values), dtype=pl.Float64, eager=True)
    text = values.str.strip_chars() if values.dtype == pl.String else values
    floats = text.cast(pl.Float64, strict=False).fill_nan(None)
    whole = text.cast(pl.Int64, strict=False)
    # int first: above 2^53 a float would round a nanosecond timestamp
    return whole if whole.count() == floats.count() and not values.dtype.is_float() else floats


def refuse_unread(values: pl.Series, parsed: pl.Series, name: str, wanted: str) -> None:
    """Refuses a column with a value that is no finite number; empty values and NaN pass.

    Args:
        values: the column as the file gave it.
        parsed: what `parse_numbers` made of it.
        name: the table and column, for the message.
        wanted: what would be right, for the message.
    Raises:
        InputError: naming the first such row (the first data row is 1) and its value.
    """
    bad = _first_unread(values, parsed)
    if bad is not None:
        raise InputError(f"{name}: data row {bad + 1:,} holds {values[bad]!r}; {wanted}")


def _first_unread(values: pl.Series, parsed: pl.Series) -> int | None:
    """The first row that holds something, is not NaN, and was not understood."""
    held = values.is_not_null()
    if values.dtype == pl.String:
        stripped = values.str.strip_chars().str.to_lowercase()
        held &= (stripped != "") & (stripped != "nan")
    elif values.dtype.is_float():
        held &= values.is_not_nan()
    unread = (held & (parsed.is_null() | _is_infinite(parsed))).arg_true()
    return int(unread[0]) if len(unread) else None


def _is_infinite(parsed: pl.Series) -> pl.Series:
    if parsed.dtype.is_float():
        return parsed.is_infinite().fill_null(False)
    return pl.repeat(False, len(parsed), dtype=pl.Boolean, eager=True)


def _in_milliseconds(numbers: pl.Series, name: str, row: str) -> tuple[pl.Series, str]:
    magnitudes = numbers.abs().cast(pl.Float64)
    largest = magnitudes.max()
    if not isinstance(largest, float):
        return numbers.cast(pl.Int64), "no value"
    level = next((index for index, unit in enumerate(_UNITS) if largest < unit[1]), None)
    if level is None:
        raise InputError(f"{name}: {largest:g} is too large for a time since 1970 in any unit")
    unit, _, factor = _UNITS[level]
    if level > 0:
        odd = ((magnitudes > 0) & (magnitudes < _UNITS[level - 1][1])).arg_true()
        if len(odd):
            raise InputError(
                f"{name}: mixed units: the column holds {unit} (up to {largest:.0f}), but {row} {odd[0] + 1:,} "
                f"holds {numbers[odd[0]]}; give every row in one unit"
            )
    if numbers.dtype.is_integer():
        times = numbers * int(factor) if factor >= 1 else numbers // round(1 / factor)
    else:
        times = (numbers * factor).round().cast(pl.Int64)
    note = f"{unit} since 1970" if unit == "milliseconds" else f"{unit} since 1970, read as milliseconds"
    last = times.max()
    if isinstance(last, int) and 0 <= last < EARLIEST_LIKELY_MS:
        year = 1970 + last // 31_556_952_000
        note += f"; the last is {largest:g}, in {year}: if that is a position, set data.timestamps: order"
    return times, note


def _parse_iso(values: pl.Series) -> pl.Series:
    parts = values.str.strip_chars().str.extract_groups(_ISO).struct.unnest()

    def number(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Float64).fill_null(0.0)

    day = pl.col("day").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64) * 86_400_000
    valid = (number("hour") < 24) & (number("minute") < 60) & (number("second") < 61)
    clock = (number("hour") * 3600 + number("minute") * 60 + number("second")) * 1000
    zone = (number("zone_hour") * 60 + number("zone_minute")) * 60_000
    offset = pl.when(pl.col("sign") == "-").then(-zone).otherwise(zone)
    moment = pl.when(valid).then(day + (clock - offset).round().cast(pl.Int64))
    return parts.select(moment.alias("time"))["time"]
