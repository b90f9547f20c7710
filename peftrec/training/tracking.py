"""What trackers are told: the recipe, metrics as they come, and the final table, each in the way it shows them best."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = "peftrec"
# What the row of what was trained is called, beside the references.
_MODEL = "model"
_TABLE, _COLUMNS = "results", ("method", "split", "metric", "value", "low", "high")

Row = Mapping[str, Any]


class Tracking:
    """The trackers of a training; without names nothing is told to anyone.

    All calls are made in all processes of a launch; the first one tells.

    Args:
        accelerator: from `make_accelerator`, with these trackers.
        names: of the trackers: tensorboard, wandb, mlflow, trackio.
        recipe: flat; its values are the hyper-parameters, and runs are named after its `output_dir`.
    """

    def __init__(self, accelerator: Any, names: Sequence[str], recipe: Mapping[str, Any]) -> None:
        self._accelerator, self._names, self._recipe = accelerator, tuple(names), dict(recipe)
        self._step, self._open = 0, False

    def begin(self) -> None:
        """Start the trackers and hand them the recipe."""
        if not self._names:
            return
        name = Path(str(self._recipe.get("output_dir", ""))).name or PROJECT
        # Trackio would go on in an older run of this name.
        named = {
            "wandb": {"name": name},
            "mlflow": {"run_name": name},
            "trackio": {"name": f"{name} {time.strftime('%Y-%m-%d %H:%M:%S')}"},
        }
        own = {tracker: given for tracker, given in named.items() if tracker in self._names}
        self._accelerator.init_trackers(PROJECT, init_kwargs=own)
        self._open = True
        for tracker in self._accelerator.trackers:
            tracker.store_init_configuration(_named(tracker, self._recipe))
            if tracker.name == "mlflow":
                import mlflow

                # Accelerate leaves out values that are too long for a parameter.
                mlflow.log_dict(self._recipe, "recipe.json")

    def log(self, row: Row, step: int) -> None:
        """Hand over numbers of a step; those that are None are left out.

        Args:
            row: such as loss and validation metrics.
            step: that they were reached after.
        """
        self._step = step
        known = {name: value for name, value in row.items() if value is not None}
        for tracker in self._open_trackers():
            tracker.log(_named(tracker, known), step=step)

    def finish(self, table: Sequence[Row]) -> None:
        """Hand over the final table, its metrics of the model as numbers (`test/ndcg@10`), and end the trackers.

        This ends the process group of a launch too (`Accelerator.end_training`): no process hears of others afterwards.

        Args:
            table: from `final_table`.
        """
        final = {f"{row['split']}/{row['metric']}": row["value"] for row in table if row["method"] == _MODEL}
        self.log(final, self._step)
        rows = [_flat(row) for row in table]
        for tracker in self._open_trackers():
            _WRITERS[tracker.name](tracker, rows, self._step)
        self._open = False
        self._accelerator.end_training()

    def abandon(self) -> None:
        """End the trackers of a training that failed, which say so where they can; the process group stays."""
        for tracker in self._open_trackers():
            if tracker.name == "wandb":
                tracker.tracker.finish(exit_code=1)
            elif tracker.name == "mlflow":
                import mlflow

                mlflow.end_run("FAILED")
            else:
                tracker.finish()
        self._open = False

    def _open_trackers(self) -> list[Any]:
        # In other processes than the first, Accelerate has started none.
        return list(self._accelerator.trackers) if self._open else []


def final_table(measured: Mapping[str, Any], splits: Sequence[str] = ("valid", "test")) -> list[dict[str, Any]]:
    """Return what was measured as rows of method, split, metric, value and interval; not defined values are None.

    Args:
        measured: what `metrics.json` holds: for each split the models, with `metrics` and `intervals` each.
        splits: to take from it.
    """
    table = []
    for split in splits:
        for method, found in measured[split].items():
            if not (isinstance(found, Mapping) and "metrics" in found):
                continue
            for metric, value in found["metrics"].items():
                interval = found.get("intervals", {}).get(metric)
                ends = None if interval is None else [_number(end) for end in interval]
                row = {"method": method, "split": split, "metric": metric, "value": _number(value), "interval": ends}
                table.append(row)
    return table


def _flat(row: Row) -> dict[str, Any]:
    low, high = row["interval"] or (None, None)
    return {"method": row["method"], "split": row["split"], "metric": row["metric"], "value": row["value"]} | {
        "low": low,
        "high": high,
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _named(tracker: Any, row: Row) -> dict[str, Any]:
    """Return the values under names that the tracker takes: MLflow has no `@`, nor what a pattern of modules holds."""
    if tracker.name != "mlflow":
        return dict(row)
    return {re.sub(r"[^/\w.\- ]", "_", name.replace("@", "_at_")): value for name, value in row.items()}


def _markdown(rows: Sequence[Row]) -> str:
    lines = ["| method | split | metric | value | interval |", "|---|---|---|---:|---|"]
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        interval = "" if row["low"] is None or row["high"] is None else f"[{row['low']:.4f}, {row['high']:.4f}]"
        lines.append(f"| {row['method']} | {row['split']} | {row['metric']} | {value} | {interval} |")
    return "\n".join(lines) + "\n"


def _to_tensorboard(tracker: Any, rows: Sequence[Row], step: int) -> None:
    tracker.tracker.add_text(_TABLE, _markdown(rows), step)


def _to_wandb(tracker: Any, rows: Sequence[Row], step: int) -> None:
    tracker.log_table(
        _TABLE, columns=list(_COLUMNS), data=[[row[name] for name in _COLUMNS] for row in rows], step=step
    )


def _to_mlflow(_tracker: Any, rows: Sequence[Row], _step: int) -> None:
    import mlflow

    mlflow.log_table({name: [row[name] for row in rows] for name in _COLUMNS}, f"{_TABLE}.json")
    mlflow.log_text(_markdown(rows), f"{_TABLE}.md")


def _to_trackio(tracker: Any, rows: Sequence[Row], step: int) -> None:
    import pandas
    import trackio

    # It takes names of columns from a data frame alone.
    table = trackio.Table(dataframe=pandas.DataFrame(list(rows), columns=list(_COLUMNS)))
    tracker.log({_TABLE: table}, step=step)


_WRITERS: dict[str, Callable[[Any, Sequence[Row], int], None]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
    "trackio": _to_trackio,
}
