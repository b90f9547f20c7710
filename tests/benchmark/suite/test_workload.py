"""What a run computes, against counts made by hand and batches that are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from peftrec.benchmark.suite import BackboneEntry
from peftrec.benchmark.workload import DataCounts, count_data, run_operations, trained_share

SIZE = BackboneEntry(parameters=12 * 4 * 128**2, layers=4)  # so that its width is 128
ONCE = ("training.num_epochs=1", "training.batch_users=1000", "loss={kind: in_batch_softmax}")


@pytest.fixture(scope="module")
def counts(make_recipe: Callable[..., Any]) -> DataCounts:
    found = count_data(make_recipe(), [])
    assert found is not None
    return found


def test_counts_are_those_of_the_data(counts: DataCounts, make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    lengths = [1.3 * len(text.split()) + 2 for text in toy_dataset.catalogue.texts]
    assert counts.tokens_N == pytest.approx(lengths)
    assert counts.num_events == toy_dataset.item_counts().sum()
    assert counts.num_trained == (toy_dataset.item_counts() > 0).sum()
    assert counts.num_cases == len(toy_dataset.split.valid.users)
    cut = count_data(make_recipe("encoder.max_tokens=4"), [])
    assert cut is not None
    assert cut.tokens_N.max() == 4
    assert count_data(make_recipe(), ["data.root=/nowhere"]) is None


def test_of_one_step(counts: DataCounts, make_recipe: Callable[..., Any]) -> None:
    """One batch holds each item that trains once; frozen weights need no gradients of their own."""

    def operations(*overrides: str) -> float:
        found = run_operations(make_recipe(*ONCE, *overrides), SIZE, counts)
        assert found is not None
        return found

    catalogue, trained = counts.tokens_N.sum(), counts.tokens_N[counts.events_N > 0].sum()
    size = float(SIZE.parameters or 0)
    frozen = operations("method={kind: frozen}")
    rest = frozen - 2 * size * catalogue
    assert operations("method={kind: side}") == frozen
    assert operations("method={kind: lora}") - rest == pytest.approx(size * (2 * catalogue + 4 * trained))
    assert operations("method={kind: full}") - rest == pytest.approx(size * (2 * catalogue + 6 * trained))
    top = size * (2 * 3 / 4 * catalogue + (2 * catalogue + 4 * trained) / 4)
    assert operations("method={kind: lora, layers: 1}") - rest == pytest.approx(top)
    # The head: every place passes its own weights and meets every item of the step, then cases are ranked three times.
    user = make_recipe().user.build(128)
    place = sum(parameter.numel() for parameter in user.parameters()) + counts.num_trained * 128
    assert rest == pytest.approx(6 * counts.num_events * place + 3 * 2 * counts.num_cases * 40 * 128)


def test_items_of_steps_are_those_of_drawn_batches(counts: DataCounts, make_recipe: Callable[..., Any]) -> None:
    recipe = make_recipe(*ONCE, "training.batch_users=8", "method={kind: lora}")
    frozen = make_recipe(*ONCE, "training.batch_users=8", "method={kind: frozen}")
    found, rest = (run_operations(one, SIZE, counts) for one in (recipe, frozen))
    assert found is not None
    assert rest is not None
    size = float(SIZE.parameters or 0)
    tokens = (found - rest) / (4 * size)
    dataset, drawn = counts.dataset, []
    rows = [
        dataset.sequences.items[start : start + length]
        for start, length in zip(dataset.sequences.offsets[:-1], dataset.split.train_lengths, strict=True)
    ]
    generator = np.random.default_rng(0)
    for _ in range(50):
        order = generator.permutation(len(rows))
        batches = [order[start : start + 8] for start in range(0, len(rows), 8)]
        items = [np.unique(np.concatenate([rows[row] for row in batch])) for batch in batches]
        drawn.append(sum(counts.tokens_N[batch].sum() for batch in items))
    assert tokens == pytest.approx(np.mean(drawn), rel=0.1)


@pytest.mark.parametrize(
    ("loss", "catalogues"),
    [
        ("loss={kind: full_softmax}", 3.0),
        ("loss={kind: full_softmax}; training.encoder_interval=2", 2.0),
        ("loss={kind: sampled_softmax, negatives: {kind: uniform, num: 100000}}", 3.0),
        ("loss={kind: in_batch_softmax}; training.batch_users=auto; training.encodings=1", 1.0),
    ],
)
def test_candidates_are_read_in_every_step(
    counts: DataCounts, make_recipe: Callable[..., Any], loss: str, catalogues: float
) -> None:
    users = -(-len(counts.dataset.sequences) // 3)
    settings = ("training.num_epochs=1", f"training.batch_users={users}", *loss.split("; "))
    lora, frozen = (
        run_operations(make_recipe(*settings, f"method={{kind: {kind}}}"), SIZE, counts) for kind in ("lora", "frozen")
    )
    assert lora is not None
    assert frozen is not None
    read = counts.tokens_N if "sampled" in loss else counts.tokens_N[counts.events_N > 0]
    assert lora - frozen == pytest.approx(4 * float(SIZE.parameters or 0) * catalogues * read.sum())


def test_the_last_step_ends_it(counts: DataCounts, make_recipe: Callable[..., Any]) -> None:
    users = -(-len(counts.dataset.sequences) // 4)
    settings = (f"training.batch_users={users}", "loss={kind: full_softmax}")
    two, eight = (run_operations(make_recipe(*settings, f"training.num_epochs={n}"), SIZE, counts) for n in (2, 8))
    eight_epochs = (*settings, "training.num_epochs=8")
    for stop in (["training.max_steps=8"], ["training.max_steps=4", "training.accumulation_steps=2"]):
        assert run_operations(make_recipe(*eight_epochs, *stop), SIZE, counts) == two
    assert run_operations(make_recipe(*eight_epochs, "training.max_steps=99"), SIZE, counts) == eight


def test_a_guessed_width_need_not_be_one_that_heads_divide(counts: DataCounts, make_recipe: Callable[..., Any]) -> None:
    """128 here, of which 10 heads take 130."""
    ten, thirteen = (run_operations(make_recipe(f"user.num_heads={heads}"), SIZE, counts) for heads in (10, 13))
    assert ten is not None
    assert ten == pytest.approx(thirteen, rel=1e-4)  # but for biases of heads


def test_what_is_not_told(counts: DataCounts, make_recipe: Callable[..., Any]) -> None:
    assert run_operations(make_recipe(), None, counts) is None
    assert run_operations(make_recipe(), BackboneEntry(), counts) is None
    assert trained_share(make_recipe("method={kind: lora, layers: 1}"), BackboneEntry(parameters=1e6)) == 1.0
    ids = make_recipe("encoder={inputs: ids, embedding_dim: 64}", "method={kind: frozen}")
    assert run_operations(ids, None, counts)
    auto = make_recipe("training.batch_users=auto")
    assert run_operations(auto, SIZE, counts)


def test_a_baseline_reads_texts_if_it_needs_vectors(counts: DataCounts, make_recipe: Callable[..., Any]) -> None:
    known = make_recipe("baseline={kind: content_knn}"), make_recipe("baseline={kind: popularity}")
    content, popular = (run_operations(recipe, SIZE, counts) for recipe in known)
    unknown = run_operations(known[0], None, counts)
    assert content is not None
    assert popular is not None
    assert unknown is not None
    assert content > 2 * float(SIZE.parameters or 0) * counts.tokens_N.sum() > popular
    assert unknown < content
