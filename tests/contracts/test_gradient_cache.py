"""Every method trains alike with the graphs of all chunks kept, of some, and of none."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.encoders import Backbone, EncoderConfig, TextEncoder, TrainingVectors, cached_vectors, load_backbone
from peftrec.methods import METHODS

TEXTS = [
    "small red wine. wine",
    "large blue cheese",
    "green tea",
    "a",
    "black rye bread, small, dry, sweet, oak. bread",
    "iced mint herb tea - large. tea",
    "goat",
    "soft aged hard blue goat cheese: 12",
]
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "adalora": {"initial_rank": 4, "target_rank": 2},
    "prompt": {"num_tokens": 3},
    "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "vera": {"rank": 8},
    "oft": {"block_size": 8},
    "adapter": {"reduction_factor": 4.0},
    "prefix": {"num_tokens": 3},
    "side": {"width": 8, "every": 2},
    "peft": {"peft_type": "LOHA", "settings": {"r": 2, "alpha": 4}},
}
CASES = [
    (kind, family)
    for kind in METHODS.kinds()
    for family in ("bert", "llama")
    # BitFit needs biases, and frozen trains nothing.
    if kind != "frozen" and (kind, family) != ("bitfit", "llama")
]


@functools.cache
def read(path: str) -> Backbone:
    return load_backbone(path)


def make(path: Path, kind: str, *, budget: int = 16, dropout: float = 0.0, checkpointing: bool = False) -> TextEncoder:
    torch.manual_seed(0)
    method = METHODS.load(kind)(**SETTINGS.get(kind, {}))
    if dropout:
        method = dataclasses.replace(method, dropout=dropout)
    config = EncoderConfig(max_tokens=16, token_budget=budget, gradient_checkpointing=checkpointing)
    encoder = TextEncoder(copy.deepcopy(read(str(path))), config, method)
    encoder.method.initialize(encoder.batches(encoder.tokenize(TEXTS)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.trained_parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return encoder.train()


def gradients(encoder: TextEncoder, graph_bytes: int) -> tuple[TrainingVectors, list[torch.Tensor]]:
    """What a loss over all vectors leaves on the method, with the same random numbers each time."""
    encoder.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    texts = encoder.tokenize(TEXTS)
    found = encoder.training_vectors(texts, torch.arange(len(TEXTS)), graph_bytes=graph_bytes)
    weights = torch.randn(found.vectors_NH.shape, generator=torch.Generator().manual_seed(2))
    (found.vectors_NH @ weights.T).div(found.vectors_NH.shape[1]).tanh().sum().backward()
    found.backward()
    return found, [p.grad.clone() for p in encoder.trained_parameters() if p.grad is not None]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    assert len(found) == len(expected) >= 1
    largest = max(float(tensor.norm()) for tensor in expected)
    assert largest > 0
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) <= tolerance * max(float(other.norm()), 1e-2 * largest)


@pytest.mark.parametrize(("kind", "family"), CASES)
def test_kept_and_encoded_again_are_one_large_batch(kind: str, family: str, backbones: dict[str, Path]) -> None:
    encoder = make(backbones[family], kind)
    everything, kept = gradients(encoder, 2**40)
    assert everything.num_kept == everything.num_chunks > 2
    assert everything.kept_bytes > 0
    some, partly = gradients(encoder, int(0.6 * everything.kept_bytes))
    assert 0 < some.num_kept < some.num_chunks
    assert 0 < some.kept_bytes <= 0.6 * everything.kept_bytes
    nothing, cached = gradients(encoder, 0)
    assert (nothing.num_kept, nothing.kept_bytes) == (0, 0)
    _, whole = gradients(make(backbones[family], kind, budget=1024), 2**40)
    for found in (kept, partly, cached):
        assert_close(found, whole, 2e-5)
    # Without a graph LoRA is merged, which some CPUs round otherwise.
    for other in (some, nothing):
        torch.testing.assert_close(other.vectors_NH, everything.vectors_NH, rtol=1e-5, atol=1e-5)


WITH_DROPOUT = [
    (kind, family)
    for kind, family in CASES
    if "dropout" in {field.name for field in dataclasses.fields(METHODS.load(kind))}
]


@pytest.mark.parametrize(("kind", "family"), WITH_DROPOUT)
def test_dropout_is_replayed(kind: str, family: str, backbones: dict[str, Path]) -> None:
    encoder = make(backbones[family], kind, dropout=0.4)
    everything, kept = gradients(encoder, 2**40)
    state = torch.get_rng_state()
    still, _ = gradients(make(backbones[family], kind), 2**40)
    assert not torch.equal(everything.vectors_NH, still.vectors_NH)
    for graph_bytes in (int(0.6 * everything.kept_bytes), 0):
        found, again = gradients(encoder, graph_bytes)
        assert found.num_kept < found.num_chunks
        assert torch.equal(found.vectors_NH, everything.vectors_NH)
        assert_close(again, kept, 1e-5)
        assert torch.equal(torch.get_rng_state(), state)


def test_what_checkpointed_layers_hold_is_counted(backbones: dict[str, Path]) -> None:
    """Their inputs stand in no graph: without them, hardly anything would seem to be held."""
    plain, _ = gradients(make(backbones["bert"], "lora"), 2**40)
    found, _ = gradients(make(backbones["bert"], "lora", checkpointing=True), 2**40)
    texts = make(backbones["bert"], "lora").tokenize(TEXTS)
    assert 3 * int(texts.lengths.sum()) * 4 * 32 <= found.kept_bytes < 0.3 * plain.kept_bytes


def linear_chunks(
    sizes: list[int], graph_bytes: int, log: list[tuple[str, int]], widths: list[int] | None = None
) -> TrainingVectors:
    """Chunks of known memory: a product saves its input, 4 * width bytes a row, beside a parameter that is known."""
    weight = torch.ones(100, 1, requires_grad=True)
    widths = [100] * len(sizes) if widths is None else widths

    def encode(chunk: int) -> torch.Tensor:
        log.append(("graph" if torch.is_grad_enabled() else "plain", chunk))
        inputs = torch.zeros(sizes[chunk], widths[chunk])
        return inputs[:, :100] @ weight

    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    rows = [torch.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return cached_vectors(
        rows, encode, (sum(sizes), 1), torch.device("cpu"), sizes=sizes, graph_bytes=graph_bytes, parameters=[weight]
    )


def run(sizes: list[int], graph_bytes: int, widths: list[int] | None = None) -> tuple[TrainingVectors, list[Any]]:
    log: list[tuple[str, int]] = []
    found = linear_chunks(sizes, graph_bytes, log, widths)
    found.vectors_NH.sum().backward()
    found.backward()
    return found, log


def test_nothing_is_encoded_twice_that_need_not_be() -> None:
    """By hand: chunks of 10, 10, 8 and 6 rows hold 4,000, 4,000, 3,200 and 2,400 bytes."""
    sizes = [10, 10, 8, 6]
    found, log = run(sizes, 13_600)
    assert (found.num_kept, found.kept_bytes) == (4, 13_600)
    assert log == [("graph", 0), ("graph", 1), ("graph", 2), ("graph", 3)]
    # The first is measured, and let go before anything is held.
    found, log = run(sizes, 13_599)
    assert (found.num_kept, found.kept_bytes) == (3, 9_600)
    assert log == [*(("graph", chunk) for chunk in range(4)), ("graph", 0)]
    found, log = run(sizes, 6_000)
    assert (found.num_kept, found.kept_bytes) == (2, 5_600)
    assert log == [("graph", 0), ("plain", 1), ("graph", 2), ("graph", 3), ("graph", 0), ("graph", 1)]
    found, log = run(sizes, 0)
    assert (found.num_kept, found.kept_bytes) == (0, 0)
    assert log == [*(("plain", chunk) for chunk in range(4)), *(("graph", chunk) for chunk in range(4))]


def test_a_chunk_that_holds_more_than_was_thought_is_let_go() -> None:
    found, _ = run([10, 10, 10], 12_000, widths=[100, 100, 200])
    assert (found.num_kept, found.kept_bytes) == (2, 8_000)


def test_gradients_of_uneven_chunks_reach_their_rows() -> None:
    """Each row has a gradient of its own, and some chunks are kept."""
    weight = torch.randn(3, 1, requires_grad=True)
    inputs = torch.randn(7, 3)
    rows = [torch.tensor([6, 0, 2]), torch.tensor([1, 5]), torch.tensor([3, 4])]
    for graph_bytes in (0, 50, 2**20):
        weight.grad = None
        found = cached_vectors(
            rows, lambda chunk: inputs[rows[chunk]] @ weight, (7, 1), torch.device("cpu"),
            sizes=[3, 2, 2], graph_bytes=graph_bytes, parameters=[weight],
        )  # fmt: skip
        (found.vectors_NH[:, 0] * torch.arange(7.0)).sum().backward()
        found.backward()
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad[:, 0], torch.arange(7.0) @ inputs)
        assert found.num_kept == {0: 0, 50: 2, 2**20: 3}[graph_bytes]


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_catalogue(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    from tests.conftest import save_tiny_bert

    folder = save_tiny_bert(tmp_path / "bert", seed=0)
    config = BertConfig.from_pretrained(folder)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 128, 512, 4
    BertModel(config).save_pretrained(folder)
    encoder = make(folder, "lora", budget=512)
    budget = 48 * 2**20

    def peak(num_texts: int, graph_bytes: int) -> float:
        texts = encoder.tokenize([TEXTS[number % len(TEXTS)] for number in range(num_texts)])
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        found = encoder.training_vectors(texts, torch.arange(num_texts), graph_bytes=graph_bytes)
        found.vectors_NH.square().sum().backward()
        found.backward()
        return _resident("VmHWM") - before

    peak(200, 0)
    small, large, kept = peak(800, budget), peak(4000, budget), peak(800, 2**40)
    assert large < 1.5 * 48
    assert kept > 2 * 48, (small, large, kept)


def _resident(name: str) -> float:
    """Memory of this process in MiB, as the kernel counts it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise AssertionError(name)
