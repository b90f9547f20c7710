"""No loss ever holds a number for every pair of position and candidate."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from peftrec.config import parse_section
from peftrec.losses import LOSSES, Debias, DebiasConfig, LossInputs, popularity_groups
from peftrec.models import second_stage

NUM_POSITIONS, NUM_CANDIDATES, DIM, MAX_LOGITS = 600, 500, 4, 5_000
CATALOGUE = {"negatives": {"kind": "catalogue"}}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "full_softmax": [{"mask_seen": mask} for mask in ("past", "all", "none")],
    "bpr": [{}, CATALOGUE, {"per_position": 3}],
    "bce": [{}, CATALOGUE, {"per_position": 3}],
    "gbce": [{}, CATALOGUE, {"per_position": 3}],
}
CASES = [(kind, settings) for kind in LOSSES.kinds() for settings in SETTINGS.get(kind, [{}])]


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that anything has made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and 0 not in tensor.stride():
                self.numbers = max(self.numbers, tensor.numel())
        return result


def make_inputs(loss: Any, num_positions: int = NUM_POSITIONS) -> LossInputs:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def places(*shape: int) -> torch.Tensor:
        return torch.randint(NUM_CANDIDATES, shape, generator=generator)

    return LossInputs(
        queries_PD=normal(num_positions, DIM).requires_grad_(),
        candidates_CD=normal(NUM_CANDIDATES, DIM).requires_grad_(),
        bias_C=normal(NUM_CANDIDATES).requires_grad_(),
        targets_P=places(num_positions),
        rows_P=torch.randint(50, (num_positions,), generator=generator),
        seen_BS=places(50, 4),
        past_P=torch.randint(4, (num_positions,), generator=generator),
        log_q_C=None if loss.candidates == "catalogue" else -normal(NUM_CANDIDATES).abs(),
        negative_C=normal(NUM_CANDIDATES) > 0 if loss.candidates == "sampled" else None,
        picks_PK=None if loss.num_picks is None else places(num_positions, 3),
        ratings_P=normal(num_positions) if loss.needs_ratings else None,
        num_items=NUM_CANDIDATES,
    )


def largest(compute: Any, inputs: LossInputs) -> int:
    with Largest() as mode:
        compute(inputs).backward()
    for tensor in (inputs.queries_PD, inputs.candidates_CD):
        assert tensor.grad is not None
        assert bool(tensor.grad.any())
    return mode.numbers


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_no_tensor_is_larger_than_the_setting(kind: str, settings: dict[str, Any]) -> None:
    loss: Any = parse_section(LOSSES.load(kind), settings)
    if hasattr(loss, "max_logits"):
        loss = dataclasses.replace(loss, max_logits=MAX_LOGITS)
    assert largest(loss.compute, make_inputs(loss)) <= MAX_LOGITS < NUM_POSITIONS * NUM_CANDIDATES / 50


@pytest.mark.parametrize("penalty", ["popularity", "groups"])
def test_nor_are_those_of_penalties(penalty: str) -> None:
    counts = torch.arange(1, NUM_CANDIDATES + 1).numpy()
    settings = {"weight": 1.0} | ({"popularity_bins": 4} if penalty == "groups" else {})
    config = parse_section(DebiasConfig, {penalty: settings, "max_logits": MAX_LOGITS})
    debias = Debias(config, counts, popularity_groups(counts, 4) if penalty == "groups" else None)
    inputs = make_inputs(LOSSES.load("full_softmax")())
    # One column more takes what is padding.
    allowed = MAX_LOGITS + MAX_LOGITS // NUM_CANDIDATES
    assert largest(lambda found: debias.penalty(found, torch.arange(NUM_CANDIDATES)), inputs) <= allowed


def test_nor_are_those_of_the_second_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = second_stage.SecondStage(DIM, 2, 5, 200)
    inputs = make_inputs(LOSSES.load("full_softmax")())
    torch.nn.init.normal_(stage.out.weight)
    found = []
    for most in (MAX_LOGITS, 10**9):
        monkeypatch.setattr(second_stage, "_MOST_AT_ONCE", most)
        torch.manual_seed(1)
        stage.zero_grad()
        with Largest() as mode:
            value = stage.loss(inputs, torch.tensor(2.0))
            value.backward()
        found.append((value.detach(), stage.user.weight.grad, mode.numbers))
    (value, gradient, numbers), (expected, wanted, whole) = found
    assert numbers <= MAX_LOGITS < whole == 200 * NUM_CANDIDATES
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_passes_within_the_cache_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's own cross-entropy, with some of the user's items masked."""
    monkeypatch.setattr("peftrec.losses.cross_entropy._CACHED_LOGITS", rows * NUM_CANDIDATES)
    loss: Any = LOSSES.load("full_softmax")(max_logits=7 * NUM_CANDIDATES)
    inputs = make_inputs(loss, 40)
    assert inputs.bias_C is not None
    leaves = (inputs.queries_PD, inputs.candidates_CD, inputs.bias_C)
    logits = inputs.queries_PD @ inputs.candidates_CD.T + inputs.bias_C
    for place in range(40):
        for item in inputs.seen_BS[inputs.rows_P[place]][: inputs.past_P[place]].tolist():
            if item != inputs.targets_P[place]:
                logits[place, item] = -torch.inf
    expected = torch.nn.functional.cross_entropy(logits, inputs.targets_P)
    found = loss.compute(inputs)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected, leaves)
    for gradient, other in zip(torch.autograd.grad(2 * found, leaves), wanted, strict=True):
        torch.testing.assert_close(gradient, 2 * other, rtol=1e-4, atol=1e-6)
