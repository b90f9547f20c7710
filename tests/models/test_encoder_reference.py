"""User encoders against slow ones written down place by place, and the transformer against what it used to give."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from peftrec.config import RecipeError, parse_section
from peftrec.models import USER_ENCODERS
from peftrec.models.time_interval import interval_buckets

DIM, MAX_HISTORY = 8, 6
SECOND, DAY = 1000, 86_400_000
VALID = torch.tensor([[False, False, True, True, True], [True] * 5, [False] * 5])
TIMES = torch.tensor(
    [
        [-1, -1, 5 * DAY, 5 * DAY, 5 * DAY + 90 * SECOND],
        [0, 999, 2 * SECOND, 40 * DAY, 4000 * DAY],
        [-1] * 5,
    ]
)
Tensors = dict[str, torch.Tensor]


def build(kind: str, **settings: Any) -> torch.nn.Module:
    """Make an encoder away from its start, so that every part counts."""
    torch.manual_seed(0)
    encoder: torch.nn.Module = USER_ENCODERS.load(kind)(max_history=MAX_HISTORY, **settings).build(DIM)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return encoder.eval()


def bucket(milliseconds: int) -> int:
    """The bucket of a length of time, by counting: 0 below a second, then one more with every doubling."""
    found, edge = 0, SECOND
    while milliseconds >= edge and found < 31:
        found, edge = found + 1, 2 * edge
    return found


def norm(state: Tensors, name: str, values: torch.Tensor) -> torch.Tensor:
    centred = values - values.mean()
    scaled = centred / (centred.square().mean() + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state: Tensors, name: str, values: torch.Tensor) -> torch.Tensor:
    return state[f"{name}.weight"] @ values + state[f"{name}.bias"]


def additive(state: Tensors, inputs: list[torch.Tensor], times: list[int], heads: int) -> list[torch.Tensor]:
    pooled = []
    for place in range(len(inputs)):
        seen = inputs[: place + 1]
        scores = [
            float(state["blocks.0.query.weight"][0] @ torch.tanh(linear(state, "blocks.0.hidden", x))) for x in seen
        ]
        total = sum(math.exp(score) for score in scores)
        pooled.append(sum(math.exp(score) / total * x for score, x in zip(scores, seen, strict=True)))
    return pooled  # type: ignore[return-value]


def multi_head(state: Tensors, inputs: list[torch.Tensor], times: list[int], heads: int) -> list[torch.Tensor]:
    pooled, width = [], DIM // heads
    for place in range(len(inputs)):
        parts = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            both = [linear(state, "blocks.0.key_value", x) for x in inputs[: place + 1]]
            scores = [float(state["blocks.0.queries"][head] @ one[:DIM][part]) / math.sqrt(width) for one in both]
            total = sum(math.exp(score) for score in scores)
            parts.append(
                sum(math.exp(score) / total * one[DIM:][part] for score, one in zip(scores, both, strict=True))
            )
        pooled.append(torch.cat(parts))  # type: ignore[arg-type]
    return pooled


def bias_of(state: Tensors, block: str, head: int, late: int, early: int, times: list[int]) -> float:
    found = 0.0
    if f"{block}.lag_bias" in state:
        found += float(state[f"{block}.lag_bias"][head, late - early])
    if f"{block}.time_bias" in state:
        found += float(state[f"{block}.time_bias"][head, bucket(times[late] - times[early])])
    return found


def transformer(state: Tensors, inputs: list[torch.Tensor], times: list[int], heads: int) -> list[torch.Tensor]:
    width, states, first = DIM // heads, inputs, 0
    if "blocks.0.table" in state:
        states, first = [x + state["blocks.0.table"][place] for place, x in enumerate(states)], 1
    for number in range(first, first + 2):
        block = f"blocks.{number}"
        rows = [linear(state, f"{block}.query_key_value", norm(state, f"{block}.attention_norm", x)) for x in states]
        mixed = []
        for late in range(len(states)):
            parts = []
            for head in range(heads):
                query, key, value = (slice(n * DIM + head * width, n * DIM + (head + 1) * width) for n in range(3))
                scores = [
                    float(rows[late][query] @ rows[early][key]) / math.sqrt(width)
                    + bias_of(state, block, head, late, early, times)
                    for early in range(late + 1)
                ]
                total = sum(math.exp(score) for score in scores)
                parts.append(sum(math.exp(score) / total * rows[early][value] for early, score in enumerate(scores)))
            mixed.append(torch.cat(parts))  # type: ignore[arg-type]
        states = [x + linear(state, f"{block}.attention_out", m) for x, m in zip(states, mixed, strict=True)]
        inner = [linear(state, f"{block}.feedforward.1", norm(state, f"{block}.feedforward.0", x)) for x in states]
        states = [x + linear(state, f"{block}.feedforward.3", F.gelu(h)) for x, h in zip(states, inner, strict=True)]
    return states


def silu(value: float) -> float:
    return value / (1 + math.exp(-value))


def hstu(state: Tensors, inputs: list[torch.Tensor], times: list[int], heads: int) -> list[torch.Tensor]:
    width, states = DIM // heads, inputs
    for number in range(2):
        block = f"blocks.{number}"
        rows = []
        for x in states:
            row = linear(state, f"{block}.gate_value_query_key", norm(state, f"{block}.input_norm", x))
            rows.append(row / (1 + (-row).exp()))
        after = []
        for late, x in enumerate(states):
            parts = []
            for head in range(heads):
                value, query, key = (slice(n * DIM + head * width, n * DIM + (head + 1) * width) for n in (1, 2, 3))
                parts.append(
                    sum(
                        silu(float(rows[late][query] @ row[key]) + bias_of(state, block, head, late, early, times))
                        * row[value]
                        for early, row in enumerate(rows[: late + 1])
                    )
                )
            mixed = norm(state, f"{block}.attention_norm", torch.cat(parts))  # type: ignore[arg-type]
            after.append(x + linear(state, f"{block}.out", mixed * rows[late][:DIM]))
        states = after
    return states


def gru(state: Tensors, inputs: list[torch.Tensor], times: list[int], heads: int) -> list[torch.Tensor]:
    """Torch's own, on the history without padding."""
    weights = {name.removeprefix("blocks.0.gru."): t for name, t in state.items() if name.startswith("blocks.0.gru.")}
    own = torch.nn.GRU(DIM, weights["weight_hh_l0"].shape[1], num_layers=sum("weight_hh" in name for name in weights))
    own.load_state_dict(weights)
    if not inputs:
        return []
    return list(own(torch.stack(inputs))[0])


REFERENCES: list[tuple[Any, str, int, dict[str, Any]]] = [
    (additive, "attention", 1, {}),
    (additive, "attention", 1, {"recency_start": False}),
    (multi_head, "attention", 4, {"pooling": "multi_head"}),
    (multi_head, "attention", 2, {"pooling": "multi_head", "num_heads": 2}),
    (transformer, "transformer", 2, {"num_heads": 2, "num_layers": 2}),
    (transformer, "transformer", 2, {"num_heads": 2, "num_layers": 2, "recency_start": False}),
    (transformer, "transformer", 4, {"num_heads": 4, "num_layers": 2, "positions": "learned"}),
    (transformer, "transformer", 2, {"num_heads": 2, "num_layers": 2, "positions": "none"}),
    (transformer, "transformer", 2, {"num_heads": 2, "num_layers": 2, "time_intervals": True}),
    (
        transformer,
        "transformer",
        2,
        {"num_heads": 2, "num_layers": 2, "positions": "none", "time_intervals": True, "feedforward": 2},
    ),
    (hstu, "hstu", 2, {"num_heads": 2}),
    (hstu, "hstu", 4, {"num_heads": 4, "time_intervals": True, "recency_start": False}),
    (gru, "gru", 1, {}),
    (gru, "gru", 1, {"num_layers": 2, "state_dim": 5, "recency_start": False}),
]


@pytest.mark.parametrize(("reference", "kind", "heads", "settings"), REFERENCES)
def test_as_written_down_place_by_place(reference: Any, kind: str, heads: int, settings: dict[str, Any]) -> None:
    encoder = build(kind, input_scale=3.0, num_recent=2, **settings)
    state = encoder.state_dict()
    items = torch.randn(3, 5, DIM)
    times = (TIMES,) if settings.get("time_intervals") else ()
    with torch.no_grad():
        found = encoder(items, VALID, *times)
        for row in range(3):
            history = items[row][VALID[row]]
            moments = TIMES[row][VALID[row]].tolist()
            states = reference(state, [3.0 * x for x in history], moments, heads)
            for place, one in enumerate(states):
                expected = linear(state, "out", norm(state, "norm", one))
                if settings.get("recency_start", True):
                    weights = state["recency.log_weights"].exp()[: place + 1]
                    newest = history[: place + 1].flip(0)[: len(weights)]
                    expected = expected + weights @ newest / weights.sum()
                torch.testing.assert_close(found[row, 5 - len(history) + place], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "settings"), [(kind, settings) for _, kind, _, settings in REFERENCES])
def test_training_starts_from_the_recency_mean(kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    encoder = USER_ENCODERS.load(kind)(max_history=MAX_HISTORY, num_recent=3, decay=0.5, **settings).build(DIM).eval()
    items = torch.randn(1, 3, DIM)
    times = (TIMES[:1, -3:],) if settings.get("time_intervals") else ()
    with torch.no_grad():
        found = encoder(items, torch.ones(1, 3, dtype=torch.bool), *times)[0, 2]
    expected = (items[0, 2] + 0.5 * items[0, 1] + 0.25 * items[0, 0]) / 1.75
    assert torch.allclose(found, expected, atol=1e-6) == settings.get("recency_start", True)


def fill(encoder: torch.nn.Module) -> None:
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(encoder.named_parameters())):
            values = torch.sin(torch.arange(parameter.numel(), dtype=torch.float32) + number)
            parameter.copy_(values.reshape(parameter.shape) * 0.5)


@pytest.mark.parametrize(
    ("recency_start", "expected"),
    [
        (
            True,
            [[-0.759932, 0.087023, 0.531180, 0.331699], [-1.101691, 0.082796, -0.341251, -0.360330],
             [0.462773, 0.879723, -0.238282, -1.421363], [-0.123930, 0.392174, -0.221492, -0.421262],
             [-0.948450, -0.191003, -0.529509, -0.414579]],
        ),
        (
            False,
            [[-0.106289, -0.196639, -0.428991, -0.422204], [-0.665287, 0.309925, -0.532218, -0.793820],
             [-0.381081, -0.027724, -0.375019, -0.661675], [-0.197610, -0.009689, -0.582067, -0.409038],
             [-0.574666, 0.200686, -0.480032, -0.752803]],
        ),
    ],
)  # fmt: skip
def test_the_transformer_gives_what_it_gave_before_it_had_options(
    recency_start: bool, expected: list[list[float]]
) -> None:
    """Numbers of the version whose only order was distance: run folders of that time load and give the same lists."""
    encoder = (
        USER_ENCODERS.load("transformer")(
            num_heads=2, num_layers=2, max_history=5, recency_start=recency_start, num_recent=2
        )
        .build(4)
        .eval()
    )
    fill(encoder)
    items = torch.cos(torch.arange(24, dtype=torch.float32)).reshape(2, 3, 4)
    valid = torch.tensor([[False, True, True], [True] * 3])
    with torch.no_grad():
        found = encoder(items * valid[..., None], valid)[valid]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-6)


def test_the_transformer_draws_its_weights_and_names_them_as_before() -> None:
    torch.manual_seed(0)
    encoder = USER_ENCODERS.load("transformer")(num_heads=2).build(4)
    state = encoder.state_dict()
    assert list(state) == [
        "blocks.0.lag_bias", "blocks.0.attention_norm.weight", "blocks.0.attention_norm.bias",
        "blocks.0.query_key_value.weight", "blocks.0.query_key_value.bias", "blocks.0.attention_out.weight",
        "blocks.0.attention_out.bias", "blocks.0.feedforward.0.weight", "blocks.0.feedforward.0.bias",
        "blocks.0.feedforward.1.weight", "blocks.0.feedforward.1.bias", "blocks.0.feedforward.3.weight",
        "blocks.0.feedforward.3.bias", "norm.weight", "norm.bias", "out.weight", "out.bias", "recency.log_weights",
    ]  # fmt: skip
    for name, expected in (
        ("blocks.0.query_key_value.weight", [-0.003743, 0.268222, -0.411523, -0.367970]),
        ("blocks.0.feedforward.3.weight", [0.470375, 0.336909, -0.218013, -0.125842]),
    ):
        torch.testing.assert_close(state[name][0], torch.tensor(expected), rtol=0, atol=1e-6)
    torch.manual_seed(0)
    USER_ENCODERS.load("transformer")(num_heads=2, recency_start=False).build(4)
    after = torch.rand(1)
    torch.manual_seed(0)
    USER_ENCODERS.load("transformer")(num_heads=2, positions="learned", time_intervals=True).build(4)
    # What the options add starts at zero and draws nothing.
    assert torch.equal(torch.rand(1), after)


def test_buckets_of_time_by_hand() -> None:
    gaps = {
        -5 * DAY: 0, 0: 0, 999: 0, 1000: 1, 1999: 1, 2000: 2, 3999: 2, 4000: 3, 60 * SECOND: 6, 3600 * SECOND: 12,
        DAY: 17, 7 * DAY: 20, 365 * DAY: 25, SECOND * 2**30 - 1: 30, SECOND * 2**30: 31, SECOND * 2**40: 31,
    }  # fmt: skip
    now = 1_700_000_000_123
    times = torch.tensor([[now - gap, now] for gap in gaps])
    assert interval_buckets(times)[:, 1, 0].tolist() == list(gaps.values())
    assert [bucket(gap) for gap in gaps] == list(gaps.values())
    assert not bool(interval_buckets(times)[1:, 0].any())


def test_times_are_not_rounded() -> None:
    """As 32-bit floats both events would have the same time."""
    times = torch.tensor([[1_700_000_000_000, 1_700_000_002_000]])
    assert float(times[0, 0].float()) == float(times[0, 1].float())
    assert interval_buckets(times)[0, 1, 0] == 2
    with pytest.raises(AssertionError, match="whole milliseconds"):
        interval_buckets(times.float())


def test_heads_are_refused_where_they_do_nothing() -> None:
    with pytest.raises(RecipeError, match=r"user\.num_heads: 2 is of pooling: multi_head"):
        parse_section(object, {"kind": "attention", "num_heads": 2}, path="user", registry=USER_ENCODERS)


@pytest.mark.parametrize(
    ("kind", "settings", "heads"),
    [
        ("hstu", {}, 4),
        ("attention", {"pooling": "multi_head"}, 4),
        ("attention", {"pooling": "multi_head", "num_heads": 5}, 5),
    ],
)
def test_heads_must_divide_the_width(kind: str, settings: dict[str, Any], heads: int) -> None:
    with pytest.raises(ValueError, match=rf"user\.num_heads: {heads} does not divide the width of item vectors, 6"):
        USER_ENCODERS.load(kind)(**settings).build(6)
