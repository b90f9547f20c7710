"""What one of several processes gets, run alone or by a launcher.

    torchrun --nproc_per_node 2 shard_probe.py JOB.json

writes everything that the process found into a folder.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peftrec.launch import Ranks

SAMPLED = "evaluation.sampled_candidates={number: 15, seed: 3}"
METHODS = {"lora": "{kind: lora, rank: 4}", "side": "{kind: side, width: 8}"}


def catalogue_vectors(recipe: Any, dataset: Any, ranks: Ranks) -> torch.Tensor:
    """Return the text vectors of the catalogue, after a step of every adapter away from the identity."""
    from peftrec.build import build

    model = build(recipe, dataset).model
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.method_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.weights_changed()
    catalogue = model.catalogue_text
    assert catalogue is not None
    catalogue.ranks = ranks
    return catalogue.vectors().clone()


def measured(scores: Any, recipe: Any, dataset: Any, ranks: Ranks) -> dict[str, Any]:
    """Return what is found for the cases of validation, in the whole catalogue and among sampled candidates."""
    from peftrec.measuring import measure, sampled_evaluations

    found = {
        "whole": measure(scores, recipe, dataset, "valid", ranks),
        "sampled": sampled_evaluations({"model": scores}, recipe, dataset, "valid", ranks)["model"],
    }
    return {
        f"{name}.{key}": value
        for name, evaluation in found.items()
        for key, value in {
            "users": evaluation.users,
            "targets": evaluation.targets,
            "ranks": evaluation.ranks,
            **evaluation.per_user,
            "repeated": np.array(evaluation.repeat_target_share),
            "catalogue": np.array(evaluation.catalogue),
        }.items()
    }


def first_cases(dataset: Any, number: int) -> Any:
    """Return the data with so many cases of validation."""
    cases = dataset.split.valid
    here = slice(0, number)
    few = dataclasses.replace(
        cases, users=cases.users[here], history_lengths=cases.history_lengths[here], targets=cases.targets[here]
    )
    return dataclasses.replace(dataset, split=dataclasses.replace(dataset.split, valid=few))


def nan_for(scores: Any, user: int) -> Any:
    """Return scores that are NaN for one user."""

    def broken(histories_BL: Any, users_B: Any, *known: Any) -> torch.Tensor:
        found: torch.Tensor = scores(histories_BL, users_B, *known)
        found[torch.from_numpy(users_B == user)] = torch.nan
        return found

    return broken


def refused(call: Any) -> str:
    """Return what a call says when it is refused."""
    from peftrec.config import InputError

    try:
        call()
    except InputError as error:
        return str(error)
    raise AssertionError("it was not refused")


def encoded(job: dict[str, Any], out: Path, run: Any, ranks: Ranks) -> dict[str, Any]:
    """Encode a table as one array, and as shards of which one cannot be written the first time."""
    from peftrec import encoding
    from peftrec.config import InputError

    told: list[str] = []
    counts = encoding.encode_items(run, job["items"], out / "npy", form="npy", shard_items=9, ranks=ranks)
    write = encoding._Job.write_shard

    def fails(here: Any, number: int) -> int:
        if number == 3:
            raise InputError("shard 4 cannot be written")
        return write(here, number)

    encoding._Job.write_shard = fails  # type: ignore[method-assign]
    encode = functools.partial(
        encoding.encode_items, run, job["items"], out / "shards", shard_items=9, report=told.append, ranks=ranks
    )
    refusal = refused(encode)
    there = sorted(path.name for path in (out / "shards").glob("*.parquet"))
    encoding._Job.write_shard = write  # type: ignore[method-assign]
    del told[:]
    again, whole = encode(), encode()
    found = {"refused": refusal, "there": there, "told": told, "same": again == whole, "counts": counts | again}
    return {f"encode.{name}": np.array(json.dumps(value)) for name, value in found.items()}


def recommended(job: dict[str, Any], out: Path, run: Any, ranks: Ranks) -> dict[str, Any]:
    """Write lists of a table in both forms, and see what is left where a row is wrong."""
    from peftrec import recommending
    from peftrec.recommender import Recommender

    recommending._USERS_A_PART = 2
    told: list[str] = []
    recommender = Recommender(run)
    found: dict[str, Any] = {
        suffix: recommending.recommend_file(
            recommender, job["users"], out / f"lists.{suffix}", 40, report=told.append, ranks=ranks
        )
        for suffix in ("parquet", "jsonl")
    }
    bad = functools.partial(recommending.recommend_file, recommender, job["bad_users"], out / "bad.jsonl", ranks=ranks)
    found |= {"refused": refused(bad), "told": told}
    return {f"recommend.{name}": np.array(json.dumps(value)) for name, value in found.items()}


def everything(job: dict[str, Any], out: Path, ranks: Ranks) -> dict[str, Any]:
    """Write into a folder, and return all that is found in this process, as arrays and texts by name."""
    from peftrec.data import load_dataset
    from peftrec.measuring import measure
    from peftrec.publishing import load_run
    from peftrec.recipe import load_recipe

    run = load_run(job["run"])
    recipe = load_recipe(Path(job["run"]) / "recipe.yaml", [SAMPLED])
    dataset = load_dataset(recipe.data)
    found: dict[str, Any] = {}
    for name, method in METHODS.items():
        changed = load_recipe(Path(job["run"]) / "recipe.yaml", [f"method={method}"])
        found[f"vectors.{name}"] = catalogue_vectors(changed, dataset, ranks).numpy()
    few = first_cases(dataset, 1)
    for kind, scores in (("products", run.scorer), ("rows", run.scores)):
        found |= {f"{kind}.{key}": value for key, value in measured(scores, recipe, dataset, ranks).items()}
        found |= {f"{kind}.one.{key}": value for key, value in measured(scores, recipe, few, ranks).items()}
    last = int(dataset.split.valid.users[-1])
    found["nan"] = np.array(refused(lambda: measure(nan_for(run.scores, last), recipe, dataset, "valid", ranks)))
    return found | encoded(job, out, run, ranks) | recommended(job, out, run, ranks)


def main() -> None:
    """Work as one of several processes."""
    from peftrec.cli import main as command
    from peftrec.launch import launched

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ranks = launched()
    assert ranks.count == 2, f"{ranks.count} processes were started"
    folder = Path(job["folder"])
    found = everything(job, folder, ranks)
    np.savez(folder / f"rank{ranks.index}.npz", **found)
    for words in job["commands"]:
        assert command(words) == 0


if __name__ == "__main__":
    main()
