"""A maker of results: valid by the schema, of runs that never were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from peftrec.evaluation import Evaluation
from peftrec.metrics import MISS, rank_metrics

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MakeResult = Callable[..., Path]


def spread(value: float) -> dict[str, Any]:
    return {"min": value, "median": value, "max": value, "values": [value]}


def cost(step: float = 0.5, memory: float | None = 300.0, machine: str = "box") -> dict[str, Any]:
    return {
        "environment": {"machine": {"processor": machine}},
        "other_work": 0.01,
        "num_steps": 30,
        "step_seconds": spread(step),
        "steps_per_epoch": 40,
        "tokens_a_step": 9000.0,
        "positions_a_step": 3000.0,
        "flops_a_step": 2e10,
        "prepare_seconds": 3.0,
        "memory_mib": {"baseline": 900.0, "weights": 90.0, "training": memory, "kind": "rss"},
        "catalogue_seconds": {"unmerged": spread(8.0), "merged": None},
        "query_seconds": {"list": spread(0.002), "new_item_unmerged": spread(0.01), "new_item_merged": None},
    }


def evaluation(users: Sequence[int], ranks: Sequence[int]) -> Evaluation:
    of_cases = np.array([rank if rank else MISS for rank in ranks], dtype=np.int64)
    return Evaluation(
        users=np.array(users, dtype=np.int64),
        targets=np.arange(len(users)),
        ranks=of_cases,
        per_user=rank_metrics(of_cases, (10,)),
        repeat_target_share=0.0,
        num_items=500,
        exclude_history=True,
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder that `make_result` writes into."""
    folder = tmp_path / "suite"
    folder.mkdir()
    return folder


@pytest.fixture
def make_result(results: Path) -> MakeResult:
    """Write a run: its JSON and the ranks of its cases; a rank of 0 is a target that cannot be ranked.

    What `more` holds goes into `run` if it is part of that, and else replaces what the JSON has on its outermost level.
    """

    def make(
        method: str,
        ranks: Sequence[int],
        *,
        users: Sequence[int] | None = None,
        seed: int = 0,
        stage: str = "trial",
        values: Mapping[str, Any] | None = None,
        valid: float = 0.05,
        lm: tuple[int, int] | None = (1000, 1_000_000),
        kind: str = "model",
        **more: Any,
    ) -> Path:
        run = {
            "name": more.pop("name", f"{method}_{stage}_{seed}_{len(list(results.glob('*.json')))}"),
            "suite": "toy",
            "method": method,
            "kind": kind,
            "backbone": more.pop("backbone", MINILM if kind == "model" else None),
            "dataset": more.pop("dataset", "beauty"),
            "seed": seed,
            "stage": stage,
            "values": values if values is not None else {},
            "overrides": [],
            "recipe": "recipes/toy.yaml",
            "command": f"peftrec train recipes/toy.yaml method.kind={method} training.seed={seed}",
        }
        run |= {key: more.pop(key) for key in ("label", "dataset_label", "tuned_on") if key in more}
        users = users if users is not None else range(len(ranks))
        cases = evaluation(users, ranks)
        block = cases.to_json()
        parts = [{"part": "user", "trainable": 100, "stored": 100, "stored_bytes": 400, "total": 100}]
        if kind == "model" and lm is not None:
            trained, total = lm
            sizes = {"trainable": trained, "stored": trained, "stored_bytes": 4 * trained, "total": total}
            parts.append({"part": "lm", **sizes})
        content = {
            "schema_version": 1,
            "run": run,
            "status": {"state": "ok", "seconds": 60.0},
            "recipe": {},
            "data_sha256": "0" * 64,
            "environment": {
                "peftrec": "0.1.0",
                "commit": "c" * 40,
                "dirty": False,
                "python": "3.11.9",
                "packages": {"torch": "2.13.0"},
                "machine": {"processor": "box", "cores": 2},
            },
            "parameters": parts,
            "files": {"a.safetensors": 4 * sum(part["trainable"] for part in parts)},
            "valid": {**block, "metrics": {**block["metrics"], "ndcg@10": valid}},
            "test": block,
            "cases": {
                "file": f"{run['name']}.parquet",
                "num_cases": len(ranks),
                "sha256": hashlib.sha256(json.dumps(list(users)).encode()).hexdigest(),
            },
            **more,
        }
        frame = pl.DataFrame(
            {"user": list(users), "rank": [rank or None for rank in ranks]},
            schema={"user": pl.UInt32, "rank": pl.UInt32},
        )
        frame.write_parquet(results / content["cases"]["file"])
        path = results / f"{run['name']}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return make


def training(values: Sequence[float], seconds: float = 10.0) -> dict[str, Any]:
    epochs = [
        {"epoch": float(number), "loss": 1.0, "train_seconds": seconds, "ndcg@10": value}
        for number, value in enumerate(values[1:], 1)
    ]
    return {
        "start": {"ndcg@10": values[0], "hr@10": values[0]},
        "epochs": epochs,
        "best_epoch": int(np.argmax(values)),
        "num_steps": 10 * len(epochs),
        "train_seconds": 1.2 * seconds * len(epochs),
    }


def target_slices(cold: float, tail: float, torso: float, head: float) -> list[dict[str, Any]]:
    return [
        {
            "kind": "target",
            "name": name,
            "num_cases": 100,
            "num_users": 100,
            "metrics": {"ndcg@10": value},
            "intervals": {"ndcg@10": [0.8 * value, 1.2 * value]},
        }
        for name, value in (("head", head), ("torso", torso), ("tail", tail), ("cold", cold))
    ]
