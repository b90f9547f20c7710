"""Steps and refreshes put the formulas together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from peftrec.benchmark.scale.gpu import A100
from peftrec.benchmark.scale.refresh import Refresh
from peftrec.benchmark.scale.scenario import SETTINGS, Setting, World
from peftrec.benchmark.scale.shape import BackboneShape, Tuning
from peftrec.benchmark.scale.size import graph_bytes, layer_bytes, trunk_bytes, vector_bytes, weight_bytes
from peftrec.benchmark.scale.step import Step, TableSteps
from peftrec.encoders import TextEncoder

WORLD = World(items=5000, tokens=10, users=3000, events=4)


def tiny(shape: BackboneShape, tuning: Tuning, **changes: int) -> Setting:
    return dataclasses.replace(
        SETTINGS[0], shape=shape, tuning=tuning, dim=32, precision="float32", users=32, **changes
    )


@pytest.mark.parametrize("graph_mib", [0, 1, 2, 64])
def test_share_of_graphs_that_are_kept(
    graph_mib: int, shape_of: Callable[[str], BackboneShape], make_encoder: Callable[..., TextEncoder]
) -> None:
    """As many whole chunks as the training step keeps."""
    text = "small red wine from a dry"
    length = int(make_encoder("bert", Tuning(rank=4)).tokenize([text]).lengths[0])
    encoder = make_encoder("bert", Tuning(rank=4), budget=16 * length)
    texts = encoder.tokenize([text] * 128)
    world = dataclasses.replace(WORLD, tokens=length)
    step = Step(
        world=world,
        setting=tiny(shape_of("bert"), Tuning(rank=4), graph_mib=graph_mib, token_budget=16 * length),
        processes=1,
    )
    assert step.tokens == int(texts.lengths.sum())
    found = encoder.training_vectors(texts, torch.arange(128), graph_bytes=graph_mib * 2**20)
    assert found.num_chunks == 8
    assert step.kept == found.num_kept / 8
    assert (step.kept == 1) == (graph_mib == 64)


def test_more_processes(shape_of: Callable[[str], BackboneShape]) -> None:
    setting = tiny(shape_of("llama"), Tuning(rank=4, layers=1), graph_mib=64, token_budget=256)
    one, four = (Step(world=WORLD, setting=setting, processes=count) for count in (1, 4))
    assert (one.candidates, four.candidates) == (128, 512)
    assert one.encoder_flops == four.encoder_flops
    assert one.other_flops < four.other_flops
    assert (one.send_seconds, one.traffic.sent) == (0, 0)
    assert four.traffic.vectors == vector_bytes(512, 32)
    assert four.read == trunk_bytes(setting.shape, four.tokens)
    assert Step(world=WORLD, setting=tiny(setting.shape, Tuning(), graph_mib=1), processes=1).read == 0
    assert one.epoch_seconds == pytest.approx(94 * one.seconds)
    assert Step(world=WORLD, setting=setting.with_drawn(10**6), processes=1).candidates == WORLD.items
    held = weight_bytes(setting.shape, "float32") + one.tokens * graph_bytes(setting.shape, setting.tuning)
    assert held < one.memory < four.memory


def test_a_table_of_the_catalogue(shape_of: Callable[[str], BackboneShape]) -> None:
    setting = tiny(shape_of("bert"), Tuning(rank=4), graph_mib=1)
    often, seldom = (TableSteps(world=WORLD, setting=setting, processes=2, interval=count) for count in (1, 10))
    assert often.table_flops == seldom.table_flops
    assert often.seconds > seldom.seconds
    assert often.sent == vector_bytes(5000, 32) / 2 + vector_bytes(5000, 32)
    free = A100.memory - weight_bytes(setting.shape, "float32") - 2**20
    assert often.most_items * often.item_bytes == pytest.approx(free)


def test_a_refresh(shape_of: Callable[[str], BackboneShape]) -> None:
    setting = tiny(shape_of("bert"), Tuning(rank=4))
    one, ten = (Refresh(world=WORLD, setting=setting, processes=count) for count in (1, 10))
    assert one.flops == ten.flops
    assert one.seconds == pytest.approx(10 * ten.seconds)
    assert (one.sent, ten.sent) == (0, 0.9 * vector_bytes(5000, 32))
    assert ten.send_seconds == pytest.approx(ten.sent / (A100.across * A100.link_share))
    assert one.vectors == vector_bytes(5000, 32)
    assert one.most_items * 4 * 64 == pytest.approx(A100.memory - weight_bytes(setting.shape, "float32"))


def test_a_gpu() -> None:
    assert A100.compute_seconds(312e12, "bf16") == pytest.approx(1 / 0.4)
    assert A100.send_seconds(300e9, 8) == pytest.approx(1 / 0.7)
    assert A100.send_seconds(25e9, 9) == pytest.approx(1 / 0.7)
    assert A100.read_seconds(32e9) == pytest.approx(1 / 0.7)


def test_the_large_backbone_fits_as_the_document_says() -> None:
    by_name = {setting.name: setting for setting in SETTINGS}
    assert weight_bytes(by_name["7B, LoRA"].shape, "bfloat16") < 24e9
    assert layer_bytes(by_name["7B, LoRA"].shape, "nf4") < 4e9
    for setting in SETTINGS:
        assert Step(world=World(), setting=setting, processes=64).memory < A100.memory
