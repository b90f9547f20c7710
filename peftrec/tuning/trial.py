"""One trial of a study."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

State = Literal["running", "complete", "pruned", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """Values of a recipe, and what they reached.

    Args:
        number: of the trial in its study, from 0; numbers may be left out.
        values: of the recipe, by dotted key, in the order of the space.
        state: `complete`, `running`, `pruned` (stopped early), or `failed`.
        value: of the validation metric; of a pruned trial the best that it had reached.
        reason: why it failed or was pruned.
        epochs: the validation metric after each epoch that was evaluated; epoch 0 is before training.
        seconds: from start to end.
    """

    number: int
    values: dict[str, Any]
    state: State = "running"
    value: float | None = None
    reason: str | None = None
    epochs: dict[int, float] = dataclasses.field(default_factory=dict)
    seconds: float | None = None

    @property
    def overrides(self) -> list[str]:
        """The values as `peftrec train` takes them."""
        return overrides_of(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        epochs = [{"epoch": epoch, "value": value} for epoch, value in sorted(self.epochs.items())]
        return dataclasses.asdict(self) | {"overrides": self.overrides, "epochs": epochs}


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Return values by dotted key as `a.b=c`; JSON, which the overrides' YAML reads back to the same values."""
    return [f"{key}={_yaml(value)}" for key, value in values.items()]


def _yaml(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    for mark in "\x85\u2028\u2029":  # ends of lines in YAML, and not in JSON
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
