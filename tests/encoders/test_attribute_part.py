"""What attributes add to a vector: by hand, zero at the start, and never from what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from peftrec.config import InputError
from peftrec.data import AttributeFeatures, FittedAttributes
from peftrec.data.attribute import CategoricalAttribute, MultiAttribute, NumericAttribute
from peftrec.data.attribute_fit import FittedLabels, FittedNumber
from peftrec.encoders import AttributePart, AttributesConfig, EncoderConfig, ItemEncoder

FITTED = FittedAttributes(
    {"price": NumericAttribute(), "brand": CategoricalAttribute(), "tags": MultiAttribute()},
    {
        "price": FittedNumber(mean=25.0, deviation=15.0, learns_missing=True),
        "brand": FittedLabels(vocabulary=("Acme",)),
        "tags": FittedLabels(vocabulary=("dry", "red")),
    },
)
ROWS: list[dict[str, Any]] = [
    {"price": 10, "brand": "Acme", "tags": "dry|red"},
    {"brand": "Bold"},
    {},
    {"price": 40, "tags": "dry|odd|red"},
]
FEATURES = FITTED.encode_rows(ROWS, ["a", "b", "c", "d"])


def make_part(*, moved: bool = True, **config: Any) -> AttributePart:
    torch.manual_seed(0)
    part = AttributePart(AttributesConfig(**{"embedding_dim": 3, "hidden_dim": 5, **config}), FITTED, 4).eval()
    if moved:
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter)
    part.set_rows(FEATURES)
    return part


@torch.no_grad()
def test_by_hand() -> None:
    part = make_part()
    brand, tags = (table.weight for table in part.embeddings)
    zero = torch.zeros(3)
    inputs = [
        torch.cat([torch.tensor([-1.0, 0.0]), brand[1], (tags[1] + tags[2]) / 2]),
        torch.cat([torch.tensor([0.0, 1.0]), brand[0], zero]),
        torch.cat([torch.tensor([1.0, 0.0]), zero, (tags[0] + tags[1] + tags[2]) / 3]),
    ]
    first, last = part.mlp[0], part.mlp[3]
    expected = [last.weight @ F.gelu(first.weight @ row + first.bias) + last.bias for row in inputs]
    found = part(torch.arange(4))
    torch.testing.assert_close(found[[0, 1, 3]], torch.stack(expected))
    # Of the third nothing is known, and of -1 neither.
    assert not found[2].any()
    assert not part(torch.tensor([-1])).any()
    # Rows that are not among those set come to the same, in whatever company.
    torch.testing.assert_close(part.of(FEATURES), found)
    torch.testing.assert_close(part.of(FITTED.encode_rows(ROWS[:1], ["a"])), found[:1])


def test_it_starts_at_zero_and_every_parameter_learns() -> None:
    part = make_part(moved=False)
    assert not part(torch.arange(4)).any()
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (part(torch.arange(4)) - 1).square().sum().backward()
        optimizer.step()
    for name, parameter in part.named_parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.any()), name


def test_other_starts_at_zero() -> None:
    for table in make_part(moved=False).embeddings:
        assert not table.weight[0].any()
        assert table.weight[1:].any(dim=1).all()


def test_dropout_acts_in_training_only() -> None:
    part = make_part(dropout=0.5)
    one, other = part(torch.arange(4)), part(torch.arange(4))
    assert torch.equal(one, other)
    part.train()
    assert not torch.equal(part(torch.arange(4)), part(torch.arange(4)))


def test_rows_are_replaced_whole() -> None:
    part = make_part()
    before = part(torch.tensor([0]))
    part.set_rows(FITTED.encode_rows(ROWS[3:], ["d"]))
    torch.testing.assert_close(part(torch.tensor([0])), part.of(FEATURES)[3:])
    assert not torch.equal(part(torch.tensor([0])), before)
    np.testing.assert_array_equal(part.rows.numbers, FEATURES.numbers[3:])


def test_rows_follow_the_module_to_another_device() -> None:
    part = make_part()
    part.to("meta")
    assert part(torch.arange(4, device="meta")).device.type == "meta"


def test_the_probe_tells_weights_apart() -> None:
    part = make_part()
    before = part.probe()
    assert torch.equal(part.probe(), before)
    for parameter in part.parameters():
        kept = parameter.detach().clone()
        torch.nn.init.normal_(parameter)
        assert not torch.allclose(part.probe(), before)
        parameter.data.copy_(kept)


@pytest.mark.parametrize("inputs", ["text", "ids", "text+ids"])
@torch.no_grad()
def test_items_are_text_and_id_and_attributes(inputs: str) -> None:
    config = EncoderConfig(inputs=inputs, embedding_dim=4)  # type: ignore[arg-type]
    texts = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)) if config.uses_text else None
    has_id, items = torch.tensor([True, True, True, False]), torch.arange(4)

    def make(part: AttributePart | None) -> ItemEncoder:
        torch.manual_seed(0)
        encoder = ItemEncoder(config, 6, has_id if config.uses_ids else None, part).eval()
        encoder.fit_whitening(torch.randn(40, 6, generator=torch.Generator().manual_seed(2)))
        return encoder

    plain, start, moved = make(None), make(make_part(moved=False)), make(make_part())
    assert torch.equal(start(texts, items), plain(texts, items))
    part = moved.attributes
    assert part is not None
    torch.testing.assert_close(moved(texts, items), plain(texts, items) + part(items))
    assert {name for name, _ in start.named_parameters()} - {name for name, _ in plain.named_parameters()} == {
        f"attributes.{name}" for name, _ in part.named_parameters()
    }
    assert len(start.id_parameters()) == len(plain.id_parameters())
    # Items that were not in the catalogue have no id, but attributes.
    some = FITTED.encode_rows([ROWS[0], ROWS[3]], ["new", "newer"])
    new_texts = None if texts is None else texts[:2]
    alone = part.of(some)
    expected = alone if new_texts is None else plain(new_texts, None) + alone
    torch.testing.assert_close(moved(new_texts, None, some), expected)


def test_without_texts_a_new_item_needs_attributes() -> None:
    encoder = ItemEncoder(EncoderConfig(inputs="ids", embedding_dim=4), 0, torch.ones(4), make_part())
    for features in (None, FEATURES):
        with pytest.raises(InputError, match="reads no texts, so that a new item needs attributes"):
            encoder(None, None, features)


def test_columns_of_one_sort_alone() -> None:
    numbers = FittedAttributes({"price": NumericAttribute()}, {"price": FITTED.columns["price"]})
    labels = FittedAttributes({"brand": CategoricalAttribute()}, {"brand": FITTED.columns["brand"]})
    for fitted, row in ((numbers, {"price": 10}), (labels, {"brand": "Acme"})):
        part = AttributePart(AttributesConfig(), fitted, 4)
        torch.nn.init.normal_(part.mlp[-1].weight)  # type: ignore[arg-type]
        features: AttributeFeatures = fitted.encode_rows([row], ["a"])
        assert part.of(features).any()
        assert part.probe().shape == (8, 4)
