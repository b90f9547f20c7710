"""Trackers are told recipe, metrics and the final table.

TensorBoard is the real one. The others are stood in for by modules that keep what they are handed and are as strict
about names as the real ones; between them and us are the real classes of Accelerate.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.training.tracking import Tracking, final_table

RECIPE = {
    "method.kind": "lora",
    "method.rank_pattern.^layer[0]$": 4,
    "optimizer.learning_rate": 0.01,
    "training.compile": False,
    "data.template": "x" * 7000,
    "output_dir": "runs/first",
}
MEASURED = {
    "training": {"train_seconds": 3.0},
    "valid": {
        "split": "leave_one_out",
        "leaks": "",
        "model": {"metrics": {"hr@10": 0.5}, "intervals": {"hr@10": [0.4, 0.6]}},
    },
    "test": {
        "split": "leave_one_out",
        "leaks": "",
        "model": {
            "metrics": {"hr@10": 0.25, "ndcg@10": 0.125, "auc": float("nan")},
            "intervals": {"hr@10": [0.2, 0.3], "ndcg@10": [0.1, 0.15], "auc": [float("nan"), float("nan")]},
        },
        "popularity": {"metrics": {"hr@10": 0.0625}, "intervals": {"hr@10": [0.05, 0.0725]}},
    },
}


def accelerator_with(name: str, folder: Path) -> Any:
    """An Accelerator that has a tracker, whether its package is there or not."""
    from accelerate import Accelerator
    from accelerate.utils import LoggerType

    accelerator = Accelerator(project_dir=str(folder))
    accelerator.log_with = [LoggerType(name)]
    return accelerator


def tell(name: str, folder: Path) -> None:
    """Tell a tracker of a training of two epochs."""
    tracking = Tracking(accelerator_with(name, folder), (name,), RECIPE)
    tracking.begin()
    tracking.log({"epoch": 1.0, "loss": 3.0, "ndcg@10": 0.1, "auc": None}, step=5)
    tracking.log({"epoch": 2.0, "loss": 2.0, "ndcg@10": 0.2}, step=10)
    tracking.finish(final_table(MEASURED))


def test_the_table_has_a_row_for_each_metric_of_each_model() -> None:
    table = final_table(MEASURED)
    assert [(row["split"], row["method"], row["metric"], row["value"]) for row in table] == [
        ("valid", "model", "hr@10", 0.5),
        ("test", "model", "hr@10", 0.25),
        ("test", "model", "ndcg@10", 0.125),
        ("test", "model", "auc", None),
        ("test", "popularity", "hr@10", 0.0625),
    ]
    assert [row["interval"] for row in table] == [[0.4, 0.6], [0.2, 0.3], [0.1, 0.15], [None, None], [0.05, 0.0725]]
    assert final_table({"test": {"model": {"metrics": {"mrr@10": 1.0}}}}, ["test"])[0]["interval"] is None


def test_tensorboard_shows_all_of_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tell("tensorboard", tmp_path)
    scalars: dict[str, list[tuple[int, float]]] = {}
    texts, plugins = {}, set()
    for path in tmp_path.rglob("*tfevents*"):
        events = EventAccumulator(str(path))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            scalars[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["tensors"]:
            texts[tag] = events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        plugins |= {events.summary_metadata[tag].plugin_data.plugin_name for tag in events.summary_metadata}
    assert scalars["loss"] == [(5, 3.0), (10, 2.0)]
    assert scalars["test/ndcg@10"] == [(10, 0.125)]
    assert scalars["valid/hr@10"] == [(10, 0.5)]
    assert "test/auc" not in scalars
    assert "hparams" in plugins
    (table,) = (text for tag, text in texts.items() if tag.startswith("results"))
    assert "| model | test | ndcg@10 | 0.1250 | [0.1000, 0.1500] |" in table
    assert "| model | test | auc | - |  |" in table
    assert "| popularity | test | hr@10 | 0.0625 | [0.0500, 0.0725] |" in table
    (hparams,) = tmp_path.rglob("hparams.yml")
    assert "optimizer.learning_rate: 0.01" in hparams.read_text(encoding="utf-8")


class Calls:
    """A module or an object of it that keeps what is called, by name, with words and values."""

    def __init__(self) -> None:
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def keeps(self, name: str, result: Any = None) -> Callable[..., Any]:
        def call(*values: Any, **words: Any) -> Any:
            self.made.append((name, values, words))
            return result

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(values, words) for made, values, words in self.made if made == name]

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.made]


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls, module = Calls(), types.ModuleType("mlflow")

    def strict(name: str) -> Callable[..., None]:
        keep = calls.keeps(name)

        def call(values: dict[str, Any], **words: Any) -> None:
            # What MLflow 2 refuses; 3 takes colons too.
            assert [key for key in values if not re.fullmatch(r"[/\w.\- ]*", key)] == []
            keep(values, **words)

        return call

    found: dict[str, Any] = {"search_experiments": [], "create_experiment": "7", "start_run": object()}
    for name in (
        "search_experiments",
        "create_experiment",
        "start_run",
        "log_dict",
        "log_table",
        "log_text",
        "end_run",
    ):
        setattr(module, name, calls.keeps(name, found.get(name)))
    for name in ("log_params", "log_metrics"):
        setattr(module, name, strict(name))
    limits = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
    module.utils = types.SimpleNamespace(validation=limits)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return calls


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls, module = Calls(), types.ModuleType("wandb")
    run = types.SimpleNamespace(log=calls.keeps("log"), finish=calls.keeps("finish"))
    module.init = calls.keeps("init", run)  # type: ignore[attr-defined]
    module.config = types.SimpleNamespace(update=calls.keeps("config"))  # type: ignore[attr-defined]
    module.Table = lambda **words: types.SimpleNamespace(**words)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls, module = Calls(), types.ModuleType("trackio")
    run = types.SimpleNamespace(log=calls.keeps("log"), finish=calls.keeps("finish"))
    module.init = calls.keeps("init", run)  # type: ignore[attr-defined]
    module.config = types.SimpleNamespace(update=calls.keeps("config"))  # type: ignore[attr-defined]
    module.Table = lambda dataframe: types.SimpleNamespace(dataframe=dataframe)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    return calls


def test_mlflow_is_told_in_names_that_it_takes(mlflow: Calls, tmp_path: Path) -> None:
    tell("mlflow", tmp_path)
    ((_, started),) = mlflow.of("start_run")
    assert started["run_name"] == "first"
    ((parameters,), _) = mlflow.of("log_params")[0]
    assert parameters["method.rank_pattern._layer_0__"] == 4
    assert "data.template" not in parameters
    assert mlflow.of("log_dict") == [((RECIPE, "recipe.json"), {})]
    assert [(values[0], words["step"]) for values, words in mlflow.of("log_metrics")] == [
        ({"epoch": 1.0, "loss": 3.0, "ndcg_at_10": 0.1}, 5),
        ({"epoch": 2.0, "loss": 2.0, "ndcg_at_10": 0.2}, 10),
        ({"valid/hr_at_10": 0.5, "test/hr_at_10": 0.25, "test/ndcg_at_10": 0.125}, 10),
    ]
    (((columns, name), _),) = mlflow.of("log_table")
    assert name == "results.json"
    assert columns["metric"] == ["hr@10", "hr@10", "ndcg@10", "auc", "hr@10"]
    assert columns["low"] == [0.4, 0.2, 0.1, None, 0.05]
    (((text, _), _),) = mlflow.of("log_text")
    assert "| model | test | ndcg@10 | 0.1250 | [0.1000, 0.1500] |" in text
    assert mlflow.names[-1] == "end_run"


def test_wandb_gets_a_table_of_its_own_kind(wandb: Calls, tmp_path: Path) -> None:
    tell("wandb", tmp_path)
    assert wandb.of("init") == [((), {"project": "peftrec", "name": "first"})]
    assert wandb.of("config")[0][0] == (RECIPE,)
    first, _, last, table = wandb.of("log")
    assert first == (({"epoch": 1.0, "loss": 3.0, "ndcg@10": 0.1},), {"step": 5})
    assert last == (({"valid/hr@10": 0.5, "test/hr@10": 0.25, "test/ndcg@10": 0.125},), {"step": 10})
    results = table[0][0]["results"]
    assert results.columns == ["method", "split", "metric", "value", "low", "high"]
    assert results.data[1] == ["model", "test", "hr@10", 0.25, 0.2, 0.3]
    assert wandb.of("finish") == [((), {})]
    assert wandb.names[-1] == "finish"


def test_trackio_gets_a_table_from_a_frame_and_a_name_for_each_run(trackio: Calls, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    tell("trackio", tmp_path)
    ((_, started),) = trackio.of("init")
    assert re.fullmatch(r"first 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", started["name"])
    frame = trackio.of("log")[-1][0][0]["results"].dataframe
    assert list(frame.columns) == ["method", "split", "metric", "value", "low", "high"]
    assert frame.iloc[2].to_dict() == {
        "method": "model", "split": "test", "metric": "ndcg@10", "value": 0.125, "low": 0.1, "high": 0.15,
    }  # fmt: skip
    assert trackio.names[-1] == "finish"


def test_a_training_that_failed_is_told_as_failed(mlflow: Calls, wandb: Calls, tmp_path: Path) -> None:
    for name in ("mlflow", "wandb"):
        tracking = Tracking(accelerator_with(name, tmp_path), (name,), RECIPE)
        tracking.begin()
        tracking.abandon()
        tracking.abandon()  # there is nothing left to end
    assert mlflow.of("end_run") == [(("FAILED",), {})]
    assert wandb.of("finish") == [((), {"exit_code": 1})]


def test_without_names_nothing_is_started(tmp_path: Path) -> None:
    from accelerate import Accelerator

    tracking = Tracking(Accelerator(), (), RECIPE)
    tracking.begin()
    tracking.log({"loss": 1.0}, step=1)
    tracking.finish(final_table(MEASURED))
    assert list(tmp_path.iterdir()) == []
