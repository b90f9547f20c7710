"""Formulas of operations against torch's counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from peftrec.benchmark.cost.flops import flop_counter
from peftrec.benchmark.cost.steps import WatchedTraining
from peftrec.benchmark.scale.shape import BackboneShape, Tuning
from peftrec.benchmark.scale.work import (
    UserSide,
    encoding_flops,
    loss_flops,
    ranking_flops,
    training_flops,
)
from peftrec.build import build
from peftrec.encoders import ItemTexts, TextEncoder
from peftrec.evaluation.product_ranking import score_blocks
from peftrec.losses import LOSSES, LossInputs

Shape = Callable[[str], BackboneShape]
Make = Callable[..., TextEncoder]
TUNINGS = [Tuning(rank=4), Tuning(rank=2, layers=2), Tuning(kind="full"), Tuning(kind="full", layers=1)]
TEXTS = ["small red wine", "large blue cheese. cheese", "tea", "iced mint herb tea - large. tea"] * 8
# Rotary positions are a product too, of a number for each token and half a head.
CLOSE = 0.01


def padded_lengths(encoder: TextEncoder, texts: ItemTexts, items: torch.Tensor) -> list[int]:
    """The padded tokens of each text, as chunks have them."""
    chunks = [items[chunk] for chunk in encoder.chunks(texts, items)]
    return [int(texts.lengths[chunk].max()) for chunk in chunks for _ in chunk]


def counted(encoder: TextEncoder, texts: ItemTexts, graph_bytes: int) -> tuple[int, int]:
    """Operations of a training step on all texts, up to the vectors and from them back."""
    with flop_counter() as forward:
        found = encoder.training_vectors(texts, torch.arange(len(texts)), graph_bytes=graph_bytes)
    found.vectors_NH.grad = torch.randn_like(found.vectors_NH)
    with flop_counter() as backward:
        found.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda one: f"{one.kind}-{one.layers}")
def test_training_on_texts(family: str, tuning: Tuning, shape_of: Shape, make_encoder: Make) -> None:
    encoder = make_encoder(family, tuning, budget=128)
    texts = encoder.store_trunk(encoder.tokenize(TEXTS))
    planned = training_flops(shape_of(family), tuning, padded_lengths(encoder, texts, torch.arange(len(texts))))
    forward, backward = counted(encoder, texts, 2**40)
    assert planned.forward == pytest.approx(forward, rel=CLOSE)
    assert planned.backward == pytest.approx(backward, rel=CLOSE)
    assert planned.total(kept=1.0) == pytest.approx(forward + backward, rel=CLOSE)
    assert planned.total(kept=0.0) == pytest.approx(sum(counted(encoder, texts, 0)), rel=CLOSE)


def test_frozen_texts_cost_nothing(shape_of: Shape) -> None:
    assert training_flops(shape_of("bert"), Tuning(kind="frozen"), [5, 6]).total(kept=0.0) == 0


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_encoding_a_catalogue(family: str, shape_of: Shape, make_encoder: Make) -> None:
    """With LoRA merged, but for the products that merge it."""
    encoder = make_encoder(family, Tuning(kind="frozen"), budget=64)
    texts = encoder.tokenize(TEXTS)
    with flop_counter() as counter:
        encoder.encode(texts)
    lengths = padded_lengths(encoder, texts, torch.arange(len(texts)))
    assert encoding_flops(shape_of(family), lengths) == pytest.approx(counter.get_total_flops(), rel=CLOSE)


def test_head(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    model = build(make_recipe(), toy_dataset).model.train()
    leaf = torch.randn(20, 32, requires_grad=True)
    with flop_counter() as counter:
        model.item_encoder(leaf, torch.arange(20)).sum().backward()
    assert UserSide(text_dim=32, dim=32, residual=16).item_flops(20) == counter.get_total_flops()


@pytest.mark.parametrize("blocks", [1, 2])
def test_user_encoder(blocks: int, make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe(f"user.num_layers={blocks}")
    encoder: Any = build(recipe, toy_dataset).model.user_encoder
    items_BLD = torch.randn(6, 9, 32, requires_grad=True)
    with flop_counter() as counter:
        encoder(items_BLD, torch.ones(6, 9, dtype=torch.bool)).sum().backward()
    planned = UserSide(text_dim=32, dim=32, blocks=blocks).history_flops(6 * 9, 6 * 81)
    assert planned == pytest.approx(counter.get_total_flops(), rel=CLOSE)


def test_loss_and_lists() -> None:
    queries, candidates = nn.Parameter(torch.randn(12, 8)), nn.Parameter(torch.randn(30, 8))
    inputs = LossInputs(
        queries_PD=queries,
        candidates_CD=candidates,
        targets_P=torch.arange(12),
        bias_C=None,
        rows_P=torch.arange(12),
        seen_BS=torch.full((12, 1), -1),
        past_P=torch.zeros(12, dtype=torch.int64),
    )
    with flop_counter() as counter:
        LOSSES.load("full_softmax")(mask_seen="none").compute(inputs).backward()
    assert loss_flops(12, 30, 8) == counter.get_total_flops()
    with flop_counter() as counter:
        for _ in score_blocks(queries.detach(), candidates.detach(), torch.zeros(30)):
            pass
    assert ranking_flops(12, 30, 8) == counter.get_total_flops()


@pytest.mark.parametrize("graph_mib", [2048, 0])
def test_a_whole_step(graph_mib: int, make_recipe: Callable[..., Any], toy_dataset: Any, shape_of: Shape) -> None:
    """Within 2 %: planning, encoding, head, user encoder, loss and optimiser of one step of all users."""
    recipe = make_recipe(
        "loss={kind: in_batch_softmax}",
        "training.batch_users=60",
        f"training.graph_memory_mib={graph_mib}",
        "encoder.token_budget=64",
    )
    watched = WatchedTraining(recipe, toy_dataset, 1)
    trainer: Any = watched.trainer
    plans: list[Any] = []
    plan = trainer.planner.plan
    trainer.planner.plan = lambda batch: plans.append(plan(batch)) or plans[-1]
    flops = watched.run(lambda: None, lambda: None).flops
    (last,) = plans[-1:]
    catalogue = trainer.model.catalogue_text
    lengths = padded_lengths(catalogue.encoder, catalogue.tokenized, last.items_C)
    encoded = training_flops(shape_of("bert"), Tuning(rank=4), lengths).total(kept=float(graph_mib > 0))
    places_B = (last.inputs_BL >= 0).sum(1)
    side = UserSide(text_dim=32, dim=32, residual=16)
    rest = side.item_flops(len(last.items_C)) + side.history_flops(int(places_B.sum()), int((places_B**2).sum()))
    loss = loss_flops(last.num_positions, len(last.items_C), 32)
    assert encoded + rest + loss == pytest.approx(flops, rel=0.02)
