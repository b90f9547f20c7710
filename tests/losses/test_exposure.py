"""Expected exposure: the formula in value and gradient, whatever the chunk; and what is never shown."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from peftrec.losses import LossInputs
from peftrec.losses.exposure import expected_exposure


def make_inputs(seed: int = 0, *, bias: bool = True, sampled: bool = False) -> LossInputs:
    """Seven positions of three users among nine candidates; histories with gaps and padding."""
    generator = torch.Generator().manual_seed(seed)
    double = torch.float64
    return LossInputs(
        queries_PD=torch.randn(7, 4, generator=generator, dtype=double).requires_grad_(),
        candidates_CD=torch.randn(9, 4, generator=generator, dtype=double).requires_grad_(),
        bias_C=torch.randn(9, generator=generator, dtype=double).requires_grad_() if bias else None,
        log_q_C=-torch.rand(9, generator=generator, dtype=double) * 3 if sampled else None,
        seen_BS=torch.tensor([[0, 1, 2, 3], [4, -1, 6, -1], [5, 8, 5, 7]]),
        targets_P=torch.tensor([1, 2, 3, 6, 8, 5, 7]),
        rows_P=torch.tensor([0, 0, 0, 1, 2, 2, 2]),
        past_P=torch.tensor([1, 2, 3, 2, 1, 2, 3]),
    )


def naive(inputs: LossInputs) -> torch.Tensor:
    """The formula, one position after the other."""
    total = torch.zeros(len(inputs.candidates_CD), dtype=inputs.candidates_CD.dtype)
    for place in range(len(inputs.queries_PD)):
        logits = inputs.candidates_CD @ inputs.queries_PD[place]
        if inputs.bias_C is not None:
            logits = logits + inputs.bias_C
        if inputs.log_q_C is not None:
            logits = logits - inputs.log_q_C
        had = set(inputs.seen_BS[inputs.rows_P[place]].tolist()[: int(inputs.past_P[place])])
        kept = [c for c in range(len(logits)) if c not in had]
        total = total.index_add(0, torch.tensor(kept), logits[kept].softmax(0))
    return total / len(inputs.queries_PD)


def leaves(inputs: LossInputs) -> list[torch.Tensor]:
    return [tensor for tensor in (inputs.queries_PD, inputs.candidates_CD, inputs.bias_C) if tensor is not None]


def test_by_hand() -> None:
    # Scores log 1, log 2, log 5 and, for the second user, who has had item 2, log 3, log 1.
    inputs = LossInputs(
        queries_PD=torch.eye(2, dtype=torch.float64),
        candidates_CD=torch.tensor([[1.0, 3.0], [2.0, 1.0], [5.0, 9.0]], dtype=torch.float64).log(),
        bias_C=None,
        targets_P=torch.tensor([0, 0]),
        rows_P=torch.tensor([0, 1]),
        seen_BS=torch.tensor([[-1], [2]]),
        past_P=torch.tensor([0, 1]),
    )
    expected = torch.tensor([(1 / 8 + 3 / 4) / 2, (2 / 8 + 1 / 4) / 2, 5 / 16], dtype=torch.float64)
    torch.testing.assert_close(expected_exposure(inputs, max_logits=100), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sampled", [True, False])
def test_equals_the_formula_in_value_and_gradient(bias: bool, sampled: bool) -> None:
    inputs = make_inputs(bias=bias, sampled=sampled)
    weights = torch.randn(9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = naive(inputs)
    gradients = torch.autograd.grad(expected @ weights, leaves(inputs))
    for max_logits in (1, 9, 20, 1000):
        found = expected_exposure(inputs, max_logits=max_logits)
        torch.testing.assert_close(found, expected)
        assert float(found.sum().detach()) == pytest.approx(1.0)
        for gradient, wanted in zip(torch.autograd.grad(found @ weights, leaves(inputs)), gradients, strict=True):
            torch.testing.assert_close(gradient, wanted)


def test_gradcheck() -> None:
    inputs = make_inputs(sampled=True)

    def compute(queries: torch.Tensor, candidates: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        values = {"queries_PD": queries, "candidates_CD": candidates, "bias_C": bias}
        return expected_exposure(dataclasses.replace(inputs, **values), max_logits=20)

    assert torch.autograd.gradcheck(compute, leaves(inputs))


def test_what_the_user_has_had_is_not_shown() -> None:
    inputs = make_inputs()
    one = dataclasses.replace(inputs, queries_PD=inputs.queries_PD[2:3], targets_P=inputs.targets_P[2:3],
                              rows_P=inputs.rows_P[2:3], past_P=inputs.past_P[2:3])  # fmt: skip
    found = expected_exposure(one, max_logits=100)
    assert found[:3].tolist() == [0, 0, 0]
    assert (found[3:] > 0).all()


@pytest.mark.parametrize("size", [1.0, 1e4, 1e18])
def test_where_nothing_is_left_nothing_is_shown(size: float) -> None:
    inputs = make_inputs()
    queries = (inputs.queries_PD.detach()[:1] * size).requires_grad_()
    everything = dataclasses.replace(
        inputs,
        queries_PD=queries,
        targets_P=torch.tensor([4]),
        rows_P=torch.tensor([0]),
        past_P=torch.tensor([9]),
        seen_BS=torch.arange(9)[None],
    )
    found = expected_exposure(everything, max_logits=100)
    assert found.tolist() == [0.0] * 9
    (gradient,) = torch.autograd.grad(found.sum(), queries)
    assert gradient.tolist() == [[0.0] * 4]


def test_a_sample_stands_for_all_items() -> None:
    """Over many batches the exposure among drawn candidates is near to that among all; without log q it is not."""
    generator = torch.Generator().manual_seed(0)
    num_items, num_draws = 40, 60
    frequencies = 1 / torch.arange(1, num_items + 1, dtype=torch.float64)
    frequencies /= frequencies.sum()
    scores = torch.randn(num_items, generator=generator, dtype=torch.float64)
    whole = scores.softmax(0)
    mean = {True: torch.zeros(num_items, dtype=torch.float64), False: torch.zeros(num_items, dtype=torch.float64)}
    for _ in range(400):
        items = torch.multinomial(frequencies, num_draws, replacement=True, generator=generator).unique()
        log_q = torch.log(-torch.expm1(num_draws * torch.log1p(-frequencies[items])))
        for corrected in (True, False):
            inputs = LossInputs(
                queries_PD=torch.ones(1, 1, dtype=torch.float64),
                candidates_CD=scores[items, None],
                targets_P=torch.tensor([0]),
                bias_C=None,
                rows_P=torch.tensor([0]),
                seen_BS=torch.tensor([[-1]]),
                past_P=torch.tensor([0]),
                log_q_C=log_q if corrected else None,
            )
            mean[corrected][items] += expected_exposure(inputs, max_logits=100) / 400
    gaps = {corrected: float((found - whole).abs().sum()) for corrected, found in mean.items()}
    assert gaps[True] < 0.2 * gaps[False]


def test_no_position() -> None:
    inputs = make_inputs()
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = dataclasses.replace(inputs, queries_PD=inputs.queries_PD[:0], targets_P=empty, rows_P=empty, past_P=empty)
    with pytest.raises(ValueError, match="without any position"):
        expected_exposure(nothing, max_logits=10)
