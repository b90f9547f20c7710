"""The network behind the dot product: what it scores, how the others are ordered, what it learns from."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from peftrec.encoders import EncoderConfig, ItemEncoder
from peftrec.losses import LossInputs
from peftrec.models import SCORERS, USER_ENCODERS, RecommenderModel
from peftrec.models.second_stage import SecondStage

DIM, NUM_ITEMS = 6, 40
HISTORIES = torch.tensor([[1, 2, 3], [-1, 7, 9], [-1, -1, 30], [-1, -1, -1]])


def make_model(kind: str = "mlp", **settings: Any) -> RecommenderModel:
    torch.manual_seed(0)
    items = ItemEncoder(
        EncoderConfig(inputs="ids", embedding_dim=DIM, id_std=1.0, item_bias=True),
        0,
        torch.ones(NUM_ITEMS, dtype=torch.bool),
    )
    model = RecommenderModel(None, items, USER_ENCODERS.load("mean")(), SCORERS.load(kind)(**settings))
    generator = torch.Generator().manual_seed(0)
    for parameter in items.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return model.eval()


def moved(model: RecommenderModel) -> RecommenderModel:
    assert model.second_stage is not None
    generator = torch.Generator().manual_seed(1)
    for parameter in model.second_stage.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return model


def by_hand(stage: SecondStage, first: float, user: torch.Tensor, item: torch.Tensor) -> float:
    u, v = user * math.sqrt(DIM), item * math.sqrt(DIM)
    inner = stage.user.weight @ u + stage.user.bias + stage.item.weight @ v + stage.product.weight @ (u * v)
    gelu = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in inner.tolist()]
    return first + sum(w * x for w, x in zip(stage.out.weight[0].tolist(), gelu, strict=True))


@torch.no_grad()
def test_it_starts_as_the_first_stage() -> None:
    model, plain = make_model(num_candidates=5), make_model("cosine")
    vectors, bias = model.encode_catalogue()
    assert torch.equal(vectors, plain.encode_catalogue()[0])
    torch.testing.assert_close(model.scores(HISTORIES, vectors, bias), plain.scores(HISTORIES, vectors, bias))
    # And draws nothing that another scorer would not have drawn before it.
    state = model.trained_state()
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.trained_state().items())


@torch.no_grad()
def test_retrieval_by_dot_product_and_scoring_again_give_the_same_lists() -> None:
    """As an index would do it: K items by the dot product of prepared vectors, put in order by the second stage."""
    model = moved(make_model(num_candidates=7))
    vectors, bias = model.encode_catalogue()
    scores = model.scores(HISTORIES, vectors, bias)
    users = model.user_vectors(vectors, HISTORIES)[:, -1]
    for row in range(3):
        first = model.scale() * (vectors @ users[row]) + bias
        order = sorted(range(NUM_ITEMS), key=lambda item: -float(first[item]))
        retrieved, rest = order[:7], order[7:]
        second = {
            item: by_hand(model.second_stage, float(first[item]), users[row], vectors[item]) for item in retrieved
        }
        expected = sorted(retrieved, key=lambda item: -second[item])
        assert scores[row].sort(descending=True).indices.tolist() == [*expected, *rest]
        assert expected != retrieved
        for item, score in second.items():
            assert float(scores[row, item]) == pytest.approx(score, abs=1e-4)
        # The others keep their distances.
        torch.testing.assert_close(scores[row][rest].diff(), first[rest].diff(), rtol=1e-4, atol=1e-4)
        assert float(scores[row][rest].max()) < min(second.values())


@torch.no_grad()
def test_others_are_lowered_only_where_they_must_be() -> None:
    stage = SecondStage(1, 1, 2, 1)
    first = torch.tensor([[5.0, 1.0, 3.0, 2.0], [5.0, 3.0, 3.0, 3.0]])
    users, items = torch.ones(2, 1), torch.ones(4, 1)
    # Items 0 and 2 lead the first row; ties go to the lower index, and what ties with a candidate stands below it.
    expected = torch.tensor([[5.0, 1.0, 3.0, 2.0], [5.0, 3.0, 2.0, 2.0]])
    assert torch.equal(stage.rescore(first, users, items), expected)
    # 5 and 3 fall to -5 and -7: the best of the others comes to stand at -8.
    stage.out.weight.fill_(-10.0)
    for layer in (stage.user, stage.item, stage.product):
        layer.weight.zero_()
    stage.user.bias.fill_(1.0)
    gelu = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    low = [5 - 10 * gelu, 3 - 10 * gelu]
    expected = torch.tensor([[low[0], low[1] - 2, low[1], low[1] - 1]])
    torch.testing.assert_close(stage.rescore(first[:1], users[:1], items), expected)


@torch.no_grad()
@pytest.mark.parametrize("num_candidates", [NUM_ITEMS, 1000])
def test_a_small_catalogue_is_scored_whole(num_candidates: int) -> None:
    model = moved(make_model(num_candidates=num_candidates))
    vectors, bias = model.encode_catalogue()
    scores = model.scores(HISTORIES[:1], vectors, bias)[0]
    user = model.user_vectors(vectors, HISTORIES[:1])[0, -1]
    first = model.scale() * (vectors @ user) + bias
    for item in range(NUM_ITEMS):
        assert float(scores[item]) == pytest.approx(
            by_hand(model.second_stage, float(first[item]), user, vectors[item]), abs=1e-4
        )


@torch.no_grad()
def test_users_of_whom_nothing_is_known_keep_the_first_scores() -> None:
    model = moved(make_model(num_candidates=7))
    vectors, bias = model.encode_catalogue()
    torch.testing.assert_close(model.scores(HISTORIES, vectors, bias)[3], bias)


@torch.no_grad()
def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = moved(make_model(num_candidates=7))
    vectors, bias = model.encode_catalogue()
    whole = model.scores(HISTORIES, vectors, bias)
    monkeypatch.setattr("peftrec.models.second_stage._MOST_AT_ONCE", 3 * 7 * DIM)
    torch.testing.assert_close(model.scores(HISTORIES, vectors, bias), whole)
    monkeypatch.setattr("peftrec.models.second_stage._MOST_AT_ONCE", 1)
    torch.testing.assert_close(model.scores(HISTORIES, vectors, bias), whole)


@torch.no_grad()
def test_scores_that_are_no_numbers_are_passed_on() -> None:
    """Whoever ranks them says so."""
    first = torch.tensor([[math.nan, 1.0, 2.0, math.nan], [1.0, 2.0, 3.0, 4.0]])
    found = SecondStage(1, 1, 2, 1).rescore(first, torch.ones(2, 1), torch.ones(4, 1))
    assert bool(found[0].isnan().any())
    assert torch.equal(found[1], first[1])


def loss_inputs(bias: bool) -> LossInputs:
    generator = torch.Generator().manual_seed(2)
    return LossInputs(
        queries_PD=(
            15 * torch.nn.functional.normalize(torch.randn(4, DIM, generator=generator), dim=1)
        ).requires_grad_(),
        candidates_CD=torch.nn.functional.normalize(torch.randn(9, DIM, generator=generator), dim=1).requires_grad_(),
        targets_P=torch.tensor([3, 8, 0, 5]),
        bias_C=torch.randn(9, generator=generator).requires_grad_() if bias else None,
        rows_P=torch.tensor([0, 0, 1, 1]),
        # The second user has had item 0 before and has it again.
        seen_BS=torch.tensor([[2, 3, 8, -1], [0, 7, 0, 5]]),
        past_P=torch.tensor([1, 2, 2, 3]),
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_candidates", [3, 50])
def test_its_loss_by_hand(bias: bool, num_candidates: int) -> None:
    torch.manual_seed(0)
    stage = SecondStage(DIM, 4, num_candidates, 100)
    torch.nn.init.normal_(stage.out.weight)
    inputs, scale = loss_inputs(bias), torch.tensor(15.0, requires_grad=True)
    expected = []
    for place, target in enumerate(inputs.targets_P.tolist()):
        seen = inputs.seen_BS[inputs.rows_P[place]].tolist()[: int(inputs.past_P[place])]
        first = (inputs.candidates_CD @ inputs.queries_PD[place]).detach()
        first = first if inputs.bias_C is None else first + inputs.bias_C.detach()
        others = [item for item in range(9) if item != target and item not in seen]
        others = sorted(others, key=lambda item: -float(first[item]))[: num_candidates - 1]
        user = inputs.queries_PD[place] / 15
        scores = [by_hand(stage, float(first[c]), user, inputs.candidates_CD[c]) for c in (target, *others)]
        expected.append(math.log(sum(math.exp(score) for score in scores)) - scores[0])
    loss = stage.loss(inputs, scale)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-4)
    loss.backward()
    assert all(bool(parameter.grad.any()) for parameter in stage.parameters())
    given = (inputs.queries_PD, inputs.candidates_CD, inputs.bias_C, scale)
    assert all(tensor is None or tensor.grad is None for tensor in given)


def test_its_loss_weighs_positions() -> None:
    torch.manual_seed(0)
    stage = SecondStage(DIM, 4, 3, 100)
    torch.nn.init.normal_(stage.out.weight)
    inputs, scale = loss_inputs(True), torch.tensor(15.0)
    alone = [stage.loss(dataclasses.replace(inputs, weights_P=torch.eye(4)[place]), scale).item() for place in range(4)]
    assert len({round(loss, 4) for loss in alone}) == 4
    assert stage.loss(inputs, scale).item() == pytest.approx(sum(alone) / 4, rel=1e-5)
    weighted = dataclasses.replace(inputs, weights_P=torch.tensor([1.0, 2.0, 0.5, 4.0]))
    expected = (alone[0] + 2 * alone[1] + 0.5 * alone[2] + 4 * alone[3]) / 7.5
    assert stage.loss(weighted, scale).item() == pytest.approx(expected, rel=1e-5)


def test_it_learns_from_so_many_positions() -> None:
    stage = SecondStage(DIM, 4, 3, 1)
    torch.nn.init.normal_(stage.out.weight)
    inputs, scale = loss_inputs(True), torch.tensor(15.0)
    torch.manual_seed(0)
    few = {round(stage.loss(inputs, scale).item(), 4) for _ in range(40)}
    stage.num_positions = 100
    # The same as in the mean of all four, one at a time.
    assert len(few) == 4
    assert stage.loss(inputs, scale).item() == pytest.approx(sum(few) / 4, abs=1e-3)


def test_it_belongs_to_the_head_and_is_saved_with_it() -> None:
    model, fresh = moved(make_model(num_candidates=7)), make_model(num_candidates=7)
    own = {id(parameter) for parameter in model.second_stage.parameters()}
    assert own <= {id(parameter) for parameter in model.head_parameters()}
    assert model.parameter_counts()["head"].trainable == sum(p.numel() for p in model.second_stage.parameters()) + 1
    fresh.load_trained_state(model.trained_state())
    vectors, bias = model.encode_catalogue()
    assert torch.equal(fresh.scores(HISTORIES, vectors, bias), model.scores(HISTORIES, vectors, bias))
    assert not any("second_stage" in name for name in make_model("cosine").trained_state())
