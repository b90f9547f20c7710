"""A step that runs out of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.training.out_of_memory import is_out_of_memory

OVERRIDES = (
    "training.num_epochs=1", "training.batch_users=16", "loss.kind=in_batch_softmax", "encoder.token_budget=128",
    "training.graph_memory_mib=64", "encoder.max_tokens=16",
)  # fmt: skip


def fails_above(trainer: Any, budget: int, error: BaseException) -> list[int]:
    """Let the encoder find no memory for chunks above a budget; return the budgets that it was asked with."""
    encoder, asked = trainer.model.text_encoder, []
    encode = encoder.training_vectors

    def training_vectors(*arguments: Any, **words: Any) -> Any:
        asked.append(encoder.config.token_budget)
        torch.rand(1)  # what was drawn before memory ran out is drawn again
        found = encode(*arguments, **words)
        if encoder.config.token_budget > budget:
            raise error
        return found

    encoder.training_vectors = training_vectors
    return asked


def test_chunks_are_halved_until_they_fit_and_the_step_is_taken_again(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    halving = prepare(make_recipe(*OVERRIDES, "training.on_out_of_memory=halve"))
    asked = fails_above(halving.trainer, 32, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    with pytest.warns(UserWarning, match=r"step 1 .* of 128 tokens; it is taken again with 64 tokens and 32 MiB"):
        found = halving.trainer.train()
    assert asked[:4] == [128, 64, 32, 32]
    assert halving.trainer.text_table.graph_bytes == 16 * 2**20
    # The very steps of a run that began with such chunks.
    small = prepare(make_recipe(*OVERRIDES, "training.graph_memory_mib=16"))
    small.model.text_encoder.config = halving.model.text_encoder.config
    fails_above(small.trainer, 32, RuntimeError("not reached"))
    wanted = small.trainer.train()
    assert [row["loss"] for row in found.epochs] == [row["loss"] for row in wanted.epochs]
    assert all(torch.equal(t, halving.model.trained_state()[n]) for n, t in small.model.trained_state().items())


def test_what_to_lower_is_said(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    error = RuntimeError(
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
    )
    told = r"step 1 ran out of memory .*training\.graph_memory_mib \(now 64\), encoder\.token_budget \(now 128\)"
    stopping = prepare(make_recipe(*OVERRIDES))
    fails_above(stopping.trainer, 32, error)
    with pytest.raises(InputError, match=told):
        stopping.trainer.train()
    # Nothing is small enough: it ends, and says so.
    hopeless = prepare(make_recipe(*OVERRIDES, "training.on_out_of_memory=halve"))
    fails_above(hopeless.trainer, 0, error)
    with (
        pytest.warns(UserWarning, match="taken again"),
        pytest.raises(InputError, match=r"graph_memory_mib \(now 1\), encoder\.token_budget \(now 16\)"),
    ):
        hopeless.trainer.train()


def test_the_way_back_of_a_table_of_the_catalogue_is_taken_again_too(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    recipe = make_recipe(*OVERRIDES, "loss.kind=full_softmax", "training.on_out_of_memory=halve")
    whole = prepare(recipe).trainer.train()
    halving = prepare(recipe)
    table: Any = halving.trainer.text_table
    step_done, failed = table.step_done, [torch.OutOfMemoryError("CUDA out of memory")]

    def step_done_or_fail(number: int, *, last: bool) -> bool:
        if failed:
            raise failed.pop()
        return bool(step_done(number, last=last))

    table.step_done = step_done_or_fail
    with pytest.warns(UserWarning, match=r"step 1 .* taken again with 64 tokens"):
        found = halving.trainer.train()
    # Chunks of other sizes round otherwise, and the optimiser makes more of it.
    assert [row["loss"] for row in found.epochs] == pytest.approx([row["loss"] for row in whole.epochs], rel=1e-3)


@pytest.mark.parametrize("where", ["stepper.step", "selection.evaluate"])
def test_what_is_not_taken_again_says_what_to_lower(
    where: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer: Any = prepare(make_recipe(*OVERRIDES, "training.on_out_of_memory=halve")).trainer
    if where == "stepper.step":
        trainer.stepper.step = fail
    else:
        trainer.evaluate = fail
    with pytest.raises(InputError, match=r"ran out of memory .*Lower training\.graph_memory_mib"):
        trainer.train()


def test_a_run_that_goes_on_has_chunks_as_small(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe(*OVERRIDES, "training.on_out_of_memory=halve")
    first = prepare(recipe, folder=tmp_path)
    fails_above(first.trainer, 32, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.warns(UserWarning, match="taken again"):
        first.trainer.train()
    again = prepare(recipe, folder=tmp_path)
    again.trainer.train(resume=True)
    assert again.model.text_encoder.config.token_budget == 32
    assert again.trainer.text_table.graph_bytes == first.trainer.text_table.graph_bytes


def test_what_onednn_was_refused_is_not_taken_again(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    refused = prepare(make_recipe(*OVERRIDES, "training.on_out_of_memory=halve"))
    asked = fails_above(refused.trainer, 32, RuntimeError("could not create a primitive"))
    with pytest.raises(InputError, match="step 1 ran out of memory"):
        refused.trainer.train()
    assert asked == [128]


def test_other_errors_stay_what_they_are(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    broken = prepare(make_recipe(*OVERRIDES, "training.on_out_of_memory=halve"))
    fails_above(broken.trainer, 0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        broken.trainer.train()
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("not enough memory"))


def large_catalogue(folder: Path, toy_data: Path) -> Path:
    """The toy data with 8,000 more items, whose texts fill what is encoded at once; forty users have had them all."""
    folder.mkdir()
    events = [f"v{number // 200},more{number},{1_600_000_000 + number}" for number in range(8_000)]
    (folder / "interactions.csv").write_text((toy_data / "interactions.csv").read_text() + "\n".join(events) + "\n")
    more = [f"more{number},small red wine large blue cheese green tea {number},tea" for number in range(8_000)]
    (folder / "items.csv").write_text((toy_data / "items.csv").read_text() + "\n".join(more) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
@pytest.mark.parametrize("wish", ["halve", "stop"])
def test_memory_that_the_system_refuses(
    wish: str, make_recipe: Callable[..., Any], toy_data: Path, tmp_path: Path
) -> None:
    """No error is made up here: the allocator finds no memory for the graph of one large chunk."""
    recipe = make_recipe(
        "loss.kind=full_softmax",
        "training.max_steps=2",
        "training.batch_users=30",
        "training.graph_memory_mib=64",
        "encoder.token_budget=131072",
        f"training.on_out_of_memory={wish}",
        data=large_catalogue(tmp_path / "data", toy_data),
    )
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("memory_probe.py")), str(tmp_path / "recipe.yaml"), "450"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if wish == "stop":
        assert "told: step 1 ran out of memory" in done.stdout, done.stdout + done.stderr
        assert "encoder.token_budget (now 131072)" in done.stdout
    else:
        words = done.stdout.split()
        assert words[::2] == ["budget", "steps"], done.stdout + done.stderr
        assert int(words[1]) < 131_072
        assert int(words[3]) == 2
