"""`private/progress.json`: how far a training is, for those who look on from outside."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from peftrec.config import InputError

PROGRESS = Path("private") / "progress.json"
STATES = ("running", "trained", "stopped", "failed")
# What a reader relies on; numbers that are not known yet are null.
_TYPES: dict[str, tuple[type, ...]] = {
    "state": (str,),
    "step": (int,),
    "num_steps": (int,),
    "epoch": (int,),
    "loss": (int, float, type(None)),
    "positions_a_second": (int, float, type(None)),
    "seconds_left": (int, float, type(None)),
    "metric": (str, type(None)),
    "best_metric": (int, float, type(None)),
    "best_epoch": (int, type(None)),
    "reason": (str, type(None)),
    "pid": (int,),
    "host": (str,),
    "began": (str,),
    "updated": (str,),
    "recipe": (dict,),
}


def write_progress(folder: Path, content: dict[str, Any]) -> None:
    """Write the file in one move, so that it is whole at any moment; numbers that JSON lacks become null.

    Args:
        folder: of the run; `private/` is made in it.
        content: flat but for `recipe`.
    Raises:
        OSError: if it cannot be written.
    """
    path = folder / PROGRESS
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.partial")
    text = json.dumps({name: _in_json(value) for name, value in content.items()}, indent=1, allow_nan=False)
    aside.write_text(text + "\n", encoding="utf-8")
    aside.replace(path)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Return what the file says; None where there is none.

    Args:
        folder: of the run.
    Raises:
        InputError: if it is damaged, or is another's.
    """
    path = folder / PROGRESS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, expected what a training writes of itself")
    for name, types in _TYPES.items():
        if not isinstance(content.get(name, ...), types) or isinstance(content[name], bool):
            raise InputError(f"{path}: is damaged or of another program ('{name}' is missing or of the wrong type)")
    if content["state"] not in STATES:
        raise InputError(f"{path}: state is '{content['state']}'; there are {', '.join(STATES)}")
    return content


def _in_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_json(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
