from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftrec.benchmark.cost import idle
from peftrec.benchmark.cost.__main__ import main
from peftrec.benchmark.cost.flops import flop_counter
from peftrec.benchmark.cost.measure import measure_cost
from peftrec.benchmark.cost.memory import TrainingMemory
from peftrec.benchmark.cost.steps import WARM_STEPS, WatchedTraining
from peftrec.benchmark.report.schema import ResultSchema
from peftrec.benchmark.speed import memory_peak
from peftrec.benchmark.speed.memory_peak import ResidentMemory
from peftrec.config import InputError, RecipeError
from peftrec.data import TrainingWindows
from peftrec.methods import METHODS

IN_BATCH = ("loss={kind: in_batch_softmax}", "training.batch_users=16")


def test_matrix_products_forward_and_backward() -> None:
    """A (5, 7) by (7, 3) product counts 2 * 5 * 7 * 3; backward one for the weights, and one for an input that asks."""
    layer, inputs = nn.Linear(7, 3, bias=False), torch.randn(5, 7)
    with flop_counter() as counter:
        layer(inputs).sum().backward()
    assert counter.get_total_flops() == 2 * (2 * 5 * 7 * 3)
    with flop_counter() as counter:
        layer(inputs.clone().requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * 5 * 7 * 3)


def test_products_that_are_added_in_place() -> None:
    """As LoRA's updates and the gradients of candidates are."""
    with flop_counter() as counter:
        torch.zeros(5, 3).addmm_(torch.randn(5, 7), torch.randn(7, 3), alpha=0.5)
    assert counter.get_total_flops() == 2 * (5 * 7 * 3)


def test_attention_on_the_cpu_is_counted() -> None:
    """Scores and their use: two products of (B h, L, d) forward; backward recomputes scores and has four more."""
    queries = torch.randn(2, 4, 10, 8, requires_grad=True)
    product = 2 * (2 * 4) * 10 * 8 * 10
    with flop_counter() as counter:
        nn.functional.scaled_dot_product_attention(queries, queries, queries)
    assert counter.get_total_flops() == 2 * product
    with flop_counter() as counter:
        nn.functional.scaled_dot_product_attention(queries, queries, queries).sum().backward()
    assert counter.get_total_flops() == 7 * product


def test_memory_above_weights_and_imports() -> None:
    memory, model = TrainingMemory(), nn.Linear(2**11, 2**11, bias=False)
    memory.begin(model)
    block = torch.ones(2**24)  # 64 MiB
    del block
    memory.end()
    found = memory.to_json()
    assert found["weights"] == 16
    if found["kind"] == "rss" and Path("/proc/self/clear_refs").exists():
        assert found["training"] == pytest.approx(64, abs=8)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only the C library of GNU gives back")
def test_memory_that_was_freed_before_hides_nothing() -> None:
    """What preparing held stays with the process, and training would take it from there unseen."""
    blocks = [bytearray(2**16) for _ in range(2**10)]  # 64 MiB, in blocks that are no mappings of their own
    last = bytearray(2**16)  # keeps the heap from shrinking by itself
    del blocks
    memory, model = TrainingMemory(), nn.Linear(8, 8)
    memory.begin(model)
    again = [bytearray(2**16) for _ in range(2**10)]
    memory.end()
    assert memory.to_json()["training"] == pytest.approx(64, abs=16)
    del again, last


def test_memory_where_the_peak_cannot_be_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was held before, and let go, is no part of the training."""
    monkeypatch.setattr(ResidentMemory, "reset", lambda _: False)
    before = torch.ones(2**26)  # 256 MiB
    del before
    memory, model = TrainingMemory(), nn.Linear(2**11, 2**11, bias=False)
    memory.begin(model)
    block = torch.ones(2**24)  # 64 MiB
    time.sleep(0.2)
    del block
    memory.end()
    if memory.to_json()["kind"] == "rss" and ResidentMemory().tells_now:
        assert memory.to_json()["training"] == pytest.approx(64, abs=8)


def test_memory_where_the_system_does_not_tell_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_peak, "_STATUS", Path("/nowhere"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    memory = TrainingMemory()
    memory.begin(nn.Linear(2**11, 2**11, bias=False))
    memory.end()
    assert memory.to_json() == {"baseline": None, "weights": 16.0, "training": None, "kind": "rss"}


def test_steps_are_those_of_training(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe(*IN_BATCH)
    watched = WatchedTraining(recipe, toy_dataset, 5)
    windows = TrainingWindows(toy_dataset, recipe.user.max_history)
    assert watched.steps_per_epoch == windows.num_batches(16)
    lengths, plan, planned = watched.model.catalogue_text.tokenized.lengths, watched.trainer.planner.plan, list[Any]()

    def recording(batch: Any) -> Any:
        planned.append(plan(batch))
        return planned[-1]

    watched.trainer.planner.plan = recording  # type: ignore[method-assign]
    called: list[str] = []
    steps = watched.run(lambda: called.append("before"), lambda: called.append("after"))
    assert called == ["before", "after"]
    assert len(planned) == WARM_STEPS + 5 + 1  # the last one counts operations
    expected = [int(lengths[one.items_C].sum()) for one in planned[WARM_STEPS : WARM_STEPS + 5]]
    assert steps.tokens == expected
    # Padded texts and histories are at least these.
    assert all(seen >= tokens for seen, tokens in zip(steps.positions, steps.tokens, strict=True))
    assert len(steps.seconds) == 5
    # Forward and backward through the linear modules of three layers, at least: 4 of 32 x 32 and 2 of 32 x 48.
    assert steps.flops > 4 * 3 * (4 * 32 * 32 + 2 * 32 * 48) * min(expected)


def test_frozen_text_encodes_nothing(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    steps = WatchedTraining(make_recipe(*IN_BATCH, "method={kind: frozen}"), toy_dataset, 2).run(_nothing, _nothing)
    assert steps.tokens == [0, 0]
    assert min(steps.positions) > 0  # histories
    full = WatchedTraining(make_recipe(*IN_BATCH, "method={kind: full}"), toy_dataset, 2).run(_nothing, _nothing)
    top = WatchedTraining(make_recipe(*IN_BATCH, "method={kind: full, layers: 1}"), toy_dataset, 2)
    assert steps.flops < top.run(_nothing, _nothing).flops < full.flops


def test_operations_by_hand(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    """What the backbone adds to the steps of frozen text, and what encoding again adds where no graph is kept.

    C texts of P places through three layers of six matrices, attention of 4 heads of 8, and a mean over places.
    """
    chunks: list[tuple[int, int]] = []

    def flops(*overrides: str) -> int:
        watched = WatchedTraining(make_recipe(*IN_BATCH, *overrides), toy_dataset, 1)
        encoder = watched.model.text_encoder

        def record(_: Any, arguments: tuple[Any, ...]) -> None:
            texts, items_C = arguments[:2]
            chunks.append((len(items_C), int(texts.lengths[items_C].max())))

        encoder.register_forward_pre_hook(record)
        return watched.run(_nothing, chunks.clear).flops

    frozen, full = flops("method={kind: frozen}"), flops("method={kind: full}")
    [(C, P)] = chunks
    linear, attention, pooling = (
        2 * C * P * 3 * (4 * 32 * 32 + 2 * 32 * 48),
        3 * 2 * (C * 4) * P * P * 8,
        2 * C * P * 32,
    )
    # Text vectors want gradients of the whitening and of the head's first matrix, which frozen text does not need.
    head = 2 * C * 32 * (32 + 16)
    assert full - frozen == 3 * linear + 7 * attention + 2 * pooling + head
    again = flops("method={kind: full}", "training.graph_memory_mib=0")
    assert chunks == [(C, P)] * 2
    assert again - full == linear + 2 * attention + pooling


# One of each sort: no step, weights themselves, of peft, of ours inside the backbone and beside it.
QUICK = ("frozen", "full", "lora", "adapter", "side")


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in METHODS.kinds()]
)
def test_every_method_has_a_cost(
    kind: str, make_recipe: Callable[..., Any], schema: dict[str, Any], tmp_path: Path
) -> None:
    more = {"peft": ", peft_type: LOHA", "oft": ", block_size: 16"}.get(kind, "")
    recipe = make_recipe(*IN_BATCH, f"method={{kind: {kind}{more}}}", f"output_dir={tmp_path}")
    cost = measure_cost(recipe, num_steps=2, exclusive=False)
    _check(cost, schema)
    assert len(cost["step_seconds"]["values"]) == 2
    assert cost["tokens_a_second"] == cost["tokens_a_step"] / cost["step_seconds"]["median"]
    assert cost["positions_a_second"] > 0
    assert cost["memory_mib"]["weights"] > 0
    mergeable = recipe.method.declared().can_merge
    assert (cost["catalogue_seconds"]["merged"] is not None) == mergeable
    assert (cost["query_seconds"]["new_item_merged"] is not None) == mergeable
    assert cost["catalogue_seconds"]["unmerged"]["min"] > 0


def test_ids_alone(make_recipe: Callable[..., Any], schema: dict[str, Any]) -> None:
    recipe = make_recipe("encoder={inputs: ids, embedding_dim: 16}", "method={kind: frozen}", *IN_BATCH)
    cost = measure_cost(recipe, num_steps=2, exclusive=False)
    _check(cost, schema)
    assert cost["catalogue_seconds"] == {"unmerged": None, "merged": None}
    assert (cost["prepare_seconds"], cost["tokens_a_step"]) == (0, 0)


def test_what_has_no_steps_is_refused(make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match="popularity has no training steps"):
        measure_cost(make_recipe("baseline={kind: popularity}"), exclusive=False)
    with pytest.raises(RecipeError, match=r"training.encoder_interval: with 40 .* measured with training.encoder_int"):
        measure_cost(make_recipe("loss={kind: full_softmax}", "training.encoder_interval=40"), exclusive=False)
    with pytest.raises(RecipeError, match=r"training.processes: costs are measured in one process, .* step of 2 "):
        measure_cost(make_recipe("training.processes=2"), exclusive=False)
    with pytest.raises(RecipeError, match="steps: 0 is too small"):
        measure_cost(make_recipe(), num_steps=0, exclusive=False)


def test_refused_while_something_else_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "other_work", lambda _: _burn())
    said: list[str] = []
    with pytest.raises(InputError, match=r"the machine is busy: other processes take 62% of it \(.*; costs are"):
        idle.require_idle(1.0, said.append)
    assert said
    assert said[0].startswith("waiting: other processes take 62%")
    monkeypatch.setattr(idle, "other_work", lambda _: 0.01)
    monkeypatch.setattr("os.getloadavg", lambda: (100.0, 0.0, 0.0))
    with pytest.raises(InputError, match="its load average of the last minute is"):
        idle.require_idle(0.0, said.append)
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    idle.require_idle(0.0, said.append)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell who computes")
def test_refused_beside_a_process_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # so that one process is enough on any machine
    code = "print('began', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code, "a-secret"], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            with pytest.raises(InputError, match="the machine is busy: other processes take") as refused:
                idle.require_idle(0.0, lambda _: None)
        finally:
            child.kill()
    assert "secret" not in str(refused.value)


def test_refused_when_others_began_meanwhile(make_recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.benchmark.cost.measure.require_idle", lambda *_: None)
    monkeypatch.setattr("peftrec.benchmark.cost.measure._measure", lambda *_: {})
    monkeypatch.setattr("peftrec.benchmark.speed.machine._own_seconds", lambda: 0.0)
    ticks = iter([0.0, 1e6])
    monkeypatch.setattr("peftrec.benchmark.speed.machine._busy_seconds", lambda: next(ticks))
    with pytest.raises(InputError, match="of the machine while costs were measured, more than 10%"):
        measure_cost(make_recipe())


def test_the_command_writes_one_document(
    make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("peftrec.benchmark.cost.measure.require_idle", lambda *_: None)
    monkeypatch.setattr("peftrec.benchmark.cost.measure.BUSY", 2.0)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(make_recipe(*IN_BATCH).to_yaml(), encoding="utf-8")
    assert main([str(recipe), "method={kind: frozen}", "--steps", "2", "--output", str(tmp_path / "cost.json")]) == 0
    assert json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))["num_steps"] == 2
    assert main([str(recipe), "baseline={kind: popularity}"]) == 2
    assert "has no training steps" in capsys.readouterr().err


@pytest.fixture
def schema() -> dict[str, Any]:
    """The form of a cost."""
    validator: Any = ResultSchema()._validator
    whole = validator.schema
    return {"$defs": whole["$defs"], **whole["properties"]["cost"]}


def _check(cost: dict[str, Any], schema: dict[str, Any]) -> None:
    import jsonschema

    jsonschema.validate(json.loads(json.dumps(cost)), schema)


def _burn() -> float:
    """Let a process compute, so that there is a name to tell; return a share that is too much."""
    code = "import time; end = time.time() + 0.3\nwhile time.time() < end: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    return 0.62


def _nothing() -> None:
    """Stands for what is called before and after steps."""
