"""Chunks on their way to a device: the same tensors in any order, sent ahead, and for nothing on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.encoders import EncoderConfig, TextEncoder, Transfer, load_backbone, to_device
from peftrec.encoders.transfer import Tensors
from peftrec.methods import METHODS

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CPU = torch.device("cpu")
NUM_CHUNKS = 5


class Recorder:
    """A courier that notes what it does, by the number in the chunk."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []

    def send(self, tensors: Tensors) -> Tensors:
        self.log.append(("send", int(tensors["number"])))
        return tensors

    def receive(self, sent: Tensors) -> Tensors:
        self.log.append(("receive", int(sent["number"])))
        return {name: tensor + 0 for name, tensor in sent.items()}


def load(number: int) -> dict[str, torch.Tensor]:
    return {"number": torch.tensor(number), "states": torch.full((2, 3), float(number))}


def test_the_next_chunk_is_sent_before_one_is_computed() -> None:
    courier = Recorder()
    transfer = Transfer(load, 3, CPU, courier=courier)
    for number in range(3):
        courier.log.append(("compute", int(transfer[number]["number"])))
    assert courier.log == [
        ("send", 0), ("send", 1), ("receive", 0), ("compute", 0),
        ("send", 2), ("receive", 1), ("compute", 1),
        ("receive", 2), ("compute", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 1, 2, 3, 4) * 2, (4, 0, 4, 4, 2, 1), (3,)])
def test_any_order_gives_the_same(ahead: int, order: tuple[int, ...]) -> None:
    courier = Recorder()
    transfer = Transfer(load, NUM_CHUNKS, CPU, ahead=ahead, courier=courier)
    for number in order:
        found = transfer[number]
        assert int(found["number"]) == number
        assert torch.equal(found["states"], load(number)["states"])
        # No more wait on the device than were asked for.
        assert len(transfer._under_way) <= ahead
    if order == (0, 1, 2, 3, 4):
        assert [number for what, number in courier.log if what == "send"] == list(range(NUM_CHUNKS))


def test_on_a_cpu_nothing_is_copied_or_loaded_ahead() -> None:
    loaded: list[int] = []
    chunks = [load(number) for number in range(NUM_CHUNKS)]

    def load_noted(number: int) -> dict[str, torch.Tensor]:
        loaded.append(number)
        return chunks[number]

    transfer = Transfer(load_noted, NUM_CHUNKS, CPU)
    assert transfer[0] is chunks[0]
    assert transfer[3] is chunks[3]
    assert loaded == [0, 3]
    tensor = torch.ones(3)
    assert to_device(tensor, CPU) is tensor


@pytest.fixture
def encoder(backbones: dict[str, Path]) -> Callable[..., TextEncoder]:
    def make(kind: str, **settings: Any) -> TextEncoder:
        torch.manual_seed(0)
        config = EncoderConfig(max_tokens=16, token_budget=16)
        return TextEncoder(load_backbone(str(backbones["bert"])), config, METHODS.load(kind)(**settings))

    return make


TEXTS = ["small red wine. wine", "large blue cheese", "green tea", "a", "iced mint herb tea - large. tea", "goat"]
METHODS_THAT_STORE = [("lora", {"rank": 2, "layers": 1}), ("lora", {"rank": 2}), ("side", {"width": 8})]


@pytest.mark.parametrize(("kind", "settings"), METHODS_THAT_STORE)
def test_what_is_sent_gives_the_vectors_of_what_is_loaded(
    kind: str, settings: Any, encoder: Callable[..., TextEncoder]
) -> None:
    one = encoder(kind, **settings)
    texts = one.store_trunk(one.tokenize(TEXTS))
    for states in (texts.trunk_TH, texts.pooled_NKH):
        assert states is None or states.device == CPU
    chunks = texts.chunks(torch.arange(len(TEXTS)), 16)
    assert len(chunks) > 2
    sent = one.transfer(texts, chunks)
    for number, chunk in enumerate(chunks):
        assert torch.equal(one(texts, chunk, sent[number]), one(texts, chunk))
    assert torch.equal(one.encode(texts)[chunks[0]], one(texts, chunks[0]))


@NEEDS_CUDA
def test_pinned_copies_arrive_whole() -> None:
    device = torch.device("cuda")
    chunks = [{"states": torch.randn(1000, 1000), "tokens": torch.arange(number, 100)} for number in range(9)]
    transfer = Transfer(lambda number: chunks[number], len(chunks), device, ahead=2)
    for _ in range(2):
        for number, chunk in enumerate(chunks):
            found = transfer[number]
            assert all(tensor.device.type == "cuda" for tensor in found.values())
            # Work on the kernels' stream, so that copies have something to run beside.
            torch.cuda._sleep(10_000_000)
            for name, tensor in chunk.items():
                assert torch.equal(found[name].cpu(), tensor)
    assert torch.equal(to_device(chunks[0]["states"], device).cpu(), chunks[0]["states"])


@NEEDS_CUDA
@pytest.mark.parametrize(("kind", "settings"), METHODS_THAT_STORE)
def test_a_gpu_gives_the_vectors_and_gradients_of_a_cpu(
    kind: str, settings: Any, encoder: Callable[..., TextEncoder]
) -> None:
    found = []
    for device in ("cpu", "cuda"):
        one = encoder(kind, **settings).to(device)
        texts = one.store_trunk(one.tokenize(TEXTS))
        one.train()
        leaves = one.training_vectors(texts, torch.arange(len(TEXTS)), graph_bytes=0)
        leaves.vectors_NH.square().sum().backward()  # type: ignore[no-untyped-call]
        leaves.backward()
        gradients = [p.grad.cpu() for p in one.trained_parameters() if p.grad is not None]
        found.append([one.encode(texts).cpu(), *gradients])
    for on_cpu, on_gpu in zip(*found, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)
