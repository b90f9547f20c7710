"""Precision and compilation in the whole loop: what training changes, and that it puts it back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import TextEncoder, compilation
from peftrec.encoders import precision as encoder_precision
from peftrec.publishing import load_run
from peftrec.run import train
from peftrec.training import accelerator, device_setting
from peftrec.training.optimizer_kind import optimizer_class

ONE_EPOCH = ("training.num_epochs=1", "training.batch_users=30")


def test_bfloat16_trains_and_leaves_no_trace(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    """One process trains without it, with it, and without it again; the first and the last are the same."""
    finals: dict[int, Any] = {}
    for number, precision in enumerate(("no", "bf16", "no")):
        prepared = prepare(make_recipe(*ONE_EPOCH, f"training.mixed_precision={precision}"))
        (encoder,) = prepared.model.text_encoders().values()
        dtypes = set()
        encoder.register_forward_hook(
            lambda module, args, output, seen=dtypes: seen.add((module.training, module.training_dtype))
        )
        prepared.trainer.train()
        assert (True, torch.bfloat16 if precision == "bf16" else None) in dtypes
        assert encoder.training_dtype is None
        finals[number] = prepared.model.trained_state()
        optimizer = prepared.trainer.optimizer.optimizer
        tensors = [*prepared.model.method_parameters(), *prepared.model.head_parameters()]
        tensors += [value for state in optimizer.state.values() for value in state.values()]
        tensors += [
            gradient for step in prepared.record.gradients for gradient in step.values() if gradient is not None
        ]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert all(torch.equal(finals[0][name], finals[2][name]) for name in finals[0])
    assert any(not torch.equal(finals[0][name], finals[1][name]) for name in finals[0] if name.startswith("adapter."))


@pytest.mark.parametrize("overrides", [(), ("training.graph_memory_mib=0", "loss.kind=in_batch_softmax")])
def test_bfloat16_learns(
    overrides: tuple[str, ...], make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    recipe = make_recipe("training.mixed_precision=bf16", "training.num_epochs=2", *overrides)
    result = prepare(recipe).trainer.train()
    assert result.epochs[1]["loss"] < result.epochs[0]["loss"]


@pytest.mark.parametrize(("precision", "checkpointing"), [("bf16", False), ("bf16", True), ("no", False)])
def test_attention_on_a_cpu_is_taken_apart_in_bfloat16_alone(
    precision: str, checkpointing: bool, make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    """Training in bfloat16 takes no fused attention, whose way back is slow; evaluation does what it does elsewhere."""
    prepared = prepare(
        make_recipe(
            *ONE_EPOCH,
            f"training.mixed_precision={precision}",
            f"encoder.gradient_checkpointing={str(checkpointing).lower()}",
        )
    )
    (encoder,) = prepared.model.text_encoders().values()
    fused: dict[bool, set[bool]] = {True: set(), False: set()}
    encoder.register_forward_hook(
        lambda module, args, output: fused[module.training].add(torch.backends.cuda.flash_sdp_enabled())
    )
    inside: dict[bool, set[bool]] = {True: set(), False: set()}
    encoder.model.register_forward_hook(
        lambda module, args, output: inside[encoder.training].add(torch.backends.cuda.flash_sdp_enabled())
    )
    prepared.trainer.train()
    prepared.model.weights_changed()
    prepared.model.catalogue_text.vectors()
    assert inside == {True: {precision == "no" or checkpointing}, False: {True}}
    assert fused == {True: {True}, False: {True}}, "and it is put back"


@pytest.mark.parametrize("warmup", [0, 1])
def test_evaluation_is_in_full_precision(
    warmup: int, make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    """Vectors that frozen epochs train on are those that are evaluated; neither is rounded."""
    seen: list[bool] = []

    def evaluate(model: Any) -> dict[str, float]:
        vectors = model.catalogue_text.vectors()
        seen.append(torch.equal(vectors, vectors.bfloat16().float()))
        model.weights_changed()
        seen.append(not torch.equal(vectors, model.catalogue_text.vectors()))
        return {"ndcg@10": 0.0}

    overrides = (f"training.warmup_frozen_epochs={warmup}", "training.num_epochs=2", "training.batch_users=30")
    prepare(make_recipe("training.mixed_precision=bf16", *overrides), evaluate=evaluate).trainer.train()
    assert len(seen) == 6
    assert not any(seen)


def test_a_run_in_bfloat16_is_reloaded_exactly(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    """`train` itself compares a fresh object with the probes, and sees that the adapter moves them."""
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        recipe = make_recipe(
            *ONE_EPOCH, f"encoder.dtype={dtype}", "training.mixed_precision=bf16", "method.layers=1", output_dir=folder
        )
        train(recipe)
        run = load_run(folder)
        assert run.model is not None
        assert run.recipe.encoder.dtype == dtype
        again, _ = run.model.encode_catalogue()
        assert torch.equal(again, run.vectors_ND)


@pytest.mark.parametrize(
    ("instructions", "imitates"),
    [
        ({}, True),
        ({"avx512_bf16": False, "avx512_f": True}, True),
        ({"avx512_bf16": True}, False),
        ({"amx_bf16": True}, False),
        ({"bf16": True}, False),
    ],
)
def test_a_cpu_that_imitates_bfloat16_is_warned_of(
    instructions: dict[str, bool],
    imitates: bool,
    make_recipe: Callable[..., Any],
    prepare: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    for precision in ("bf16", "no"):
        caplog.clear()
        prepare(make_recipe(f"training.mixed_precision={precision}"))
        warned = "this CPU has no instructions for it" in caplog.text
        assert warned == (precision == "bf16" and imitates)


def test_compiled_training_is_the_same(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(compilation, "BACKEND", backend)
    finals = []
    for compiled in ("false", "true"):
        prepared = prepare(make_recipe(*ONE_EPOCH, "method.layers=1", f"training.compile={compiled}"))
        assert bool(graphs) is False
        prepared.trainer.train()
        finals.append(prepared.model.trained_state())
    assert graphs
    for name, tensor in finals[0].items():
        # AdamW moves a weight whose gradient is only rounding by its sign: single weights may differ.
        assert float((finals[1][name] - tensor).norm()) <= 5e-3 * float(tensor.norm()) + 1e-4, name
    number = len(graphs)
    prepared.model.weights_changed()
    prepared.model.encode_catalogue()
    assert len(graphs) == number
    with pytest.raises(
        InputError, match=r"training\.compile is true, but no layer of .* trains with frozen; use false"
    ):
        prepare(make_recipe("method.kind=frozen", "training.compile=true")).trainer.train()


def test_settings_that_the_device_lacks_are_named(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"^training\.tf32 is true, but training runs on 'cpu', .*; use false"):
            prepare(make_recipe("training.tf32=true"))
    monkeypatch.setattr(device_setting, "_has_bf16", lambda _: False)
    with pytest.raises(
        InputError, match=r"^training\.mixed_precision is bf16, but the device '.*' does not compute in"
    ):
        prepare(make_recipe("training.mixed_precision=bf16"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(InputError, match=r"^training\.tf32 is true, but Tesla T4 has no TF32"):
        device_setting.check_device(make_recipe("training.tf32=true").training, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    device_setting.check_device(make_recipe("training.tf32=true").training, torch.device("cuda"))


def test_tf32_is_as_set_inside_and_as_before_outside(make_recipe: Callable[..., Any]) -> None:
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    seen: list[tuple[bool, ...]] = []

    class OnCuda:
        accelerator = type("Accelerator", (), {"device": torch.device("cuda")})
        model: Any = None

        def __init__(self, tf32: str) -> None:
            self.config = make_recipe(f"training.tf32={tf32}").training

        @device_setting.with_tf32
        def epoch(self) -> None:
            seen.append(tuple(switch.allow_tf32 for switch in switches))
            if len(seen) == 3:
                raise ZeroDivisionError

    before = tuple(switch.allow_tf32 for switch in switches)
    for tf32 in ("true", "false"):
        OnCuda(tf32).epoch()
        assert tuple(switch.allow_tf32 for switch in switches) == before
    assert seen == [(True, True), (False, False)]
    with pytest.raises(ZeroDivisionError):
        OnCuda("true").epoch()
    assert tuple(switch.allow_tf32 for switch in switches) == before


@pytest.mark.parametrize("newer", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_switches_are_put_back_whichever_were_used_before(newer: bool) -> None:
    """In a process of its own: who has once used torch's newer switches cannot go back."""
    code = f"""
import torch
from peftrec.encoders import tf32_products
matmul = torch.backends.cuda.matmul
if {newer}:
    matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.rnn.fp32_precision = "tf32"
def on():
    return [switch.fp32_precision == "tf32" for switch in (matmul, torch.backends.cudnn.conv)]
before = on()
for allowed in (False, True):
    with tf32_products(allowed):
        assert on() == [allowed, allowed], on()
    assert on() == before, on()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_epochs_train_in_tf32_and_what_is_kept_is_computed_without(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[str, bool]] = []

    def noting(owner: type, name: str) -> None:
        plain = getattr(owner, name)

        def noted(*known: Any, **words: Any) -> Any:
            states.append((name, torch.backends.cuda.matmul.allow_tf32))
            return plain(*known, **words)

        monkeypatch.setattr(owner, name, noted)

    monkeypatch.setattr(accelerator, "check_device", lambda *_: None)
    monkeypatch.setattr(device_setting, "_is_gpu", lambda _: True)
    monkeypatch.setattr(encoder_precision, "_is_gpu", lambda _: True)
    recipe = make_recipe("training.tf32=true", "training.num_epochs=2", "training.warmup_frozen_epochs=1")
    prepared = prepare(recipe)
    trainer, (encoder,) = prepared.trainer, prepared.model.text_encoders().values()
    noting(type(trainer), "_accumulate")
    noting(type(trainer.selection), "judge")
    noting(TextEncoder, "load")  # called inside of `encode`, and of steps
    trainer.train()
    assert {on for name, on in states if name == "_accumulate"} == {True}
    assert {on for name, on in states if name == "judge"} == {False}
    # A run that goes on computes its table inside of an epoch.
    states.clear()
    with encoder_precision.tf32_products(allowed=True):
        encoder.encode(encoder.tokenize(["tea"]))
    assert {on for _, on in states} == {False}


def test_adamw_is_fused_and_steps_alike() -> None:
    finals = []
    # Those of a CPU and of a GPU are one class, so that it can be compared here.
    for made in (optimizer_class("adamw", torch.device("cpu")), torch.optim.AdamW):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 100))
        optimizer = made([{"params": [parameter], "lr": 1e-2, "weight_decay": 0.1}])
        for step in range(5):
            parameter.grad = torch.cos(parameter.detach() * (step + 1))
            optimizer.step()
        finals.append(parameter.detach())
    assert made([parameter]).defaults["fused"] is None
    assert optimizer_class("adamw", torch.device("cuda"))([parameter]).defaults["fused"] is True
    torch.testing.assert_close(*finals, rtol=1e-6, atol=1e-7)
