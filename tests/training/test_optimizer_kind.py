"""8-bit and paged AdamW: what is really held in 8 bits, and that a stopped run goes on to the same weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peftrec.config import InputError, RecipeError
from peftrec.training.checkpoint_folder import CheckpointFolder
from peftrec.training.optimizer_kind import flat_state, nested_state, optimizer_class
from peftrec.training.snapshot import CHECKPOINTS

bitsandbytes = pytest.importorskip("bitsandbytes")

KINDS = ("adamw_8bit", "paged_adamw", "paged_adamw_8bit")
CPU = torch.device("cpu")
# Nothing can be paged on a CPU, and bitsandbytes says so.
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


class KilledError(Exception):
    """Stands for a kill."""


def rising(stop_at: int | None = None, done: int = 0) -> Callable[[Any], dict[str, float]]:
    """An evaluation that finds progress every time, and is killed in the n-th call."""
    calls = [done]

    def evaluate(_: Any) -> dict[str, float]:
        calls[0] += 1
        if calls[0] == stop_at:
            raise KilledError
        return {"ndcg@10": 0.01 * calls[0]}

    return evaluate


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["adamw", *KINDS])
def test_a_stopped_run_goes_on_to_the_same_weights(
    kind: str, method: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    settings = (
        "training.num_epochs=4",
        "encoder.residual_dim=160",
        "optimizer.clip_norm=1.0",
        f"optimizer.kind={kind}",
    )
    recipe = make_recipe(f"method.kind={method}", *settings)
    whole = prepare(recipe, evaluate=rising())
    expected = whole.trainer.train()
    with pytest.raises(KilledError):
        prepare(recipe, evaluate=rising(stop_at=4), folder=tmp_path).trainer.train()
    again = prepare(recipe, evaluate=rising(done=3), folder=tmp_path)
    result = again.trainer.train(resume=True)
    assert [row["loss"] for row in result.epochs] == [row["loss"] for row in expected.epochs]
    wanted, found = whole.model.trained_state(), again.model.trained_state()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    moments = {
        name: optimizer.state_dict()["state"]
        for name, optimizer in (("whole", whole.trainer.optimizer), ("again", again.trainer.optimizer))
    }
    assert moments["whole"].keys() == moments["again"].keys()
    tensors, resumed = flat_state(whole.trainer.optimizer), flat_state(again.trainer.optimizer)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("kind", ["adamw_8bit", "paged_adamw_8bit"])
def test_large_tensors_have_moments_of_8_bits_and_the_checkpoint_holds_them(
    kind: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe("training.num_epochs=1", "encoder.residual_dim=160", f"optimizer.kind={kind}")
    prepared = prepare(recipe, folder=tmp_path)
    prepared.trainer.train()
    newest = CheckpointFolder(tmp_path / CHECKPOINTS).paths()[0]
    stored = load_file(newest / "optimizer.safetensors")
    groups = prepared.trainer.optimizer.param_groups
    assert [group["name"] for group in groups] == ["lm", "head"]
    parameters = [parameter for group in groups for parameter in group["params"]]
    large = [place for place, parameter in enumerate(parameters) if parameter.numel() >= 4096]
    assert large
    for place, parameter in enumerate(parameters):
        names = {key.partition(".")[2] for key in stored if key.startswith(f"{place}.")}
        eight = {"absmax1", "absmax2", "qmap1", "qmap2"} if place in large else set()
        assert names == {"state1", "state2", "step"} | eight
        for moment in ("state1", "state2"):
            tensor = stored[f"{place}.{moment}"]
            assert tensor.dtype == (torch.uint8 if place in large else torch.float32)
            assert tensor.shape == parameter.shape
            assert parameter.numel() == 1 or len(tensor.unique()) > 1
    fresh = prepare(recipe).trainer.optimizer
    fresh.load_state_dict({"state": nested_state(stored), "param_groups": fresh.state_dict()["param_groups"]})
    again = flat_state(fresh)
    assert again.keys() == stored.keys()
    assert all(
        torch.equal(tensor, again[name]) and tensor.dtype == again[name].dtype for name, tensor in stored.items()
    )


def test_steps_of_8_bits_are_near_those_of_32() -> None:
    weights = []
    for kind in ("adamw", *KINDS):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(64, 128))
        optimizer = optimizer_class(kind, CPU)([{"params": [parameter], "lr": 0.01, "weight_decay": 0.1}])
        for _ in range(20):
            (parameter - 1).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        weights.append(parameter.detach())
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[1], weights[0])
    assert float((weights[1] - weights[0]).abs().max()) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_without_bitsandbytes_the_message_says_what_to_install(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        InputError, match=rf"optimizer\.kind is {kind}, which needs bitsandbytes; pip install 'peftrec\["
    ):
        optimizer_class(kind, CPU)
    optimizer_class("adamw", CPU)([torch.nn.Parameter(torch.zeros(2))])


def test_a_device_without_kernels_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, *_: Any) -> None:
            raise NotImplementedError("no kernel")

    monkeypatch.setattr(bitsandbytes.optim, "AdamW8bit", Broken)
    with pytest.raises(
        InputError, match=r"cannot make a step of adamw_8bit on the device 'cpu' \(no kernel\); use adamw"
    ):
        optimizer_class("adamw_8bit", CPU)


def test_a_kind_that_there_is_not_is_refused(make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match=r"optimizer\.kind"):
        make_recipe("optimizer.kind=sgd")
