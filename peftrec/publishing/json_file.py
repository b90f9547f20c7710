"""JSON files of a run folder, read so that none of them can exhaust the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NoReturn

from peftrec.config import InputError

# All that such a file says fits many times over; beyond it, reading would cost memory before anything is checked.
_MOST_BYTES: Final = 64 * 2**20


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if it is missing, too large, nested too deep, not UTF-8 or not JSON; NaN and Infinity are not.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(f"{path}: has {size:,} bytes; such a file has at most {_MOST_BYTES:,}")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise InputError(f"{path}: is missing from the run folder") from None
    except RecursionError:
        raise InputError(f"{path}: is damaged (nested too deep)") from None
    except (ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged ({error})") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
