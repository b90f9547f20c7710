"""Several processes learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

PROBE = Path(__file__).with_name("rank_probe.py")
IN_BATCH = ["loss={kind: in_batch_softmax}", "encoder.token_budget=64"]
METHODS = {
    "lora": "{kind: lora, rank: 4}",
    "dora": "{kind: lora, rank: 3, dora: true}",
    "adapter": "{kind: adapter, placement: houlsby, reduction_factor: 4}",
    "prefix": "{kind: prefix, num_tokens: 3}",
    "side": "{kind: side, width: 8}",
    "full": "{kind: full}",
    "lora_top1": "{kind: lora, rank: 4, layers: 1}",
}
PROFILE = "profile={max_tokens: 32, item_tokens: 4, attribute_tokens: 4}"
UNIFORM = "negatives: {kind: uniform, num: 8}"
# 60 windows: with 16 users in each of two processes batches of 32 and 28.
CASES: dict[str, tuple[list[str], list[str]]] = {
    **{
        name: ([*IN_BATCH, f"method={method}", "training.batch_users=16"], ["training.batch_users=32"])
        for name, method in METHODS.items()
    },
    # Graphs that are not kept: texts are encoded twice, chunk by chunk, and ranks have other numbers of chunks.
    "cached": ([*IN_BATCH, "training.batch_users=16", "training.graph_memory_mib=0"], ["training.batch_users=32"]),
    # Of 3 users one process has one, the other two.
    "uneven": ([*IN_BATCH, "training.batch_users=30", "data.sample={users: 3, seed: 0}"], ["training.batch_users=60"]),
    "one_user": ([*IN_BATCH, "training.batch_users=9", "data.sample={users: 1, seed: 0}"], ["training.batch_users=18"]),
    "accumulated": (
        [*IN_BATCH, "training.batch_users=8", "training.accumulation_steps=2"],
        ["training.batch_users=16", "training.accumulation_steps=2"],
    ),
    # Layers are dealt out over the processes: FSDP2. Processes have other numbers of chunks.
    **{
        f"sharded_{name}": (
            [*IN_BATCH, f"method={METHODS[name]}", "training.batch_users=16", "training.shard_backbone=true"],
            ["training.batch_users=32", "training.shard_backbone=false"],
        )
        for name in ("lora", "dora", "adapter", "prefix", "side", "lora_top1")
    },
    "sharded_catalogue": (
        ["loss={kind: full_softmax}", "training.batch_users=16", "training.shard_backbone=true"],
        ["training.batch_users=32", "training.shard_backbone=false"],
    ),
    "sharded_one_user": (
        [*IN_BATCH, "training.batch_users=9", "data.sample={users: 1, seed: 0}", "training.shard_backbone=true"],
        ["training.batch_users=18", "training.shard_backbone=false"],
    ),
    "catalogue": (["loss={kind: full_softmax}", "training.batch_users=16"], ["training.batch_users=32"]),
    "sampled": (["loss={kind: sampled_softmax}", "training.batch_users=16"], ["training.batch_users=32"]),
    "margin": (["loss={kind: bce}", "training.batch_users=16"], ["training.batch_users=32"]),
    "margin_accumulated": (
        [f"loss={{kind: bce, {UNIFORM}}}", "training.batch_users=8", "training.accumulation_steps=2"],
        ["training.batch_users=16"],
    ),
    "profile": ([*IN_BATCH, PROFILE, "training.batch_users=16"], ["training.batch_users=32"]),
    "profile_margin": (["loss={kind: bce}", PROFILE, "training.batch_users=16"], ["training.batch_users=32"]),
    "profile_one_user": (
        [*IN_BATCH, PROFILE, "training.batch_users=9", "data.sample={users: 1, seed: 0}"],
        ["training.batch_users=18"],
    ),
}  # fmt: skip

# One of each sort; the rest is left to longer checks.
OFTEN = (
    "lora", "full", "cached", "uneven", "one_user", "accumulated", "sharded_dora", "sharded_lora_top1",
    "sharded_one_user", "catalogue", "sampled", "margin_accumulated", "profile",
)  # fmt: skip
SHARES = {"often": OFTEN, "rest": tuple(name for name in CASES if name not in OFTEN)}


@pytest.fixture(scope="module")
def probe(load_script: Callable[[Path], Any]) -> Any:
    return load_script(PROBE)


@pytest.fixture(scope="module", params=["often", pytest.param("rest", marks=pytest.mark.slow)])
def two(
    request: pytest.FixtureRequest, make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """The gradients of both processes in every case of a share."""
    folder = tmp_path_factory.mktemp("ranks")
    recipe = folder / "recipe.yaml"
    recipe.write_text(make_recipe().to_yaml(), encoding="utf-8")
    cases = {name: (str(recipe), CASES[name][0]) for name in SHARES[request.param]}
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*words, str(PROBE), str(folder / "cases.json"), str(folder)],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: [load_file(folder / f"{name}.rank{rank}.safetensors") for rank in (0, 1)] for name in cases}


def test_two_processes_have_the_gradients_of_one(
    two: dict[str, list[dict[str, Any]]], probe: Any, make_recipe: Callable[..., Any]
) -> None:
    """One process with batch 2 B, two with B each: the same loss and gradients. One test, as two launches cost most."""
    from peftrec.data import load_dataset

    faults = {}
    for name, found in two.items():
        own, alone = CASES[name]
        recipe = make_recipe(*own, *alone)
        expected = probe.gradients(recipe, load_dataset(recipe.data))
        try:
            compare(name, *found, expected)
        except AssertionError as error:
            faults[name] = str(error)
    assert faults == {}


def compare(name: str, first: dict[str, Any], second: dict[str, Any], expected: dict[str, Any]) -> None:
    """See that both processes have the gradients of one."""
    assert first.keys() == second.keys() == expected.keys()
    for held in (first.pop("held_share"), second.pop("held_share")):
        # Of the tiny backbone adapters and head, which stay whole, are a good part.
        assert (float(held) < 0.8) == name.startswith("sharded_"), float(held)
    assert float(expected.pop("held_share")) == 1.0
    largest = max(float(gradient.abs().max()) for key, gradient in expected.items() if key != "loss")
    for key, gradient in expected.items():
        assert torch.equal(first[key], second[key]), key
        # Relative to the tensor's own size; one that is all rounding is compared with the largest: biases of keys
        # change nothing, and a margin starts where the loss is least.
        nothing = key == "scale.margin" or key.endswith("key.bias")
        size = max(float(gradient.norm()), (1e-2 if nothing else 1e-4) * largest)
        assert float((first[key] - gradient).norm()) <= 1e-5 * size, key
