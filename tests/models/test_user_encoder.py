"""Mean, recency, the strong start, the scorers, and the recommender as one module: against hand computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.baselines import BASELINES
from peftrec.build import build
from peftrec.config import InputError, RecipeError
from peftrec.models.mean import MeanUserEncoder
from peftrec.models.scorer import CosineScorer, DotScorer, LearnedScale
from peftrec.models.transformer import TransformerUserEncoder
from peftrec.models.user_encoder import RecencyMean


def test_mean_by_hand() -> None:
    items = torch.tensor([[[9.0, 9.0], [2.0, 0.0], [4.0, 6.0]]])
    valid = torch.tensor([[False, True, True]])
    found = MeanUserEncoder().build(2)(items, valid)
    torch.testing.assert_close(found[0, 1:], torch.tensor([[2.0, 0.0], [3.0, 3.0]]))
    assert not bool(found[0, 0].any())


def test_recency_by_hand() -> None:
    items = torch.tensor([[[1.0], [10.0], [100.0], [1000.0]]])
    valid = torch.ones(1, 4, dtype=torch.bool)
    found = RecencyMean(3, 0.5, learned=False)(items, valid)[0, :, 0]
    expected = [1.0, (10 + 0.5) / 1.5, (100 + 5 + 0.25) / 1.75, (1000 + 50 + 2.5) / 1.75]
    torch.testing.assert_close(found, torch.tensor(expected))
    # The weights of a padded place go to the others.
    valid[0, :2] = False
    torch.testing.assert_close(RecencyMean(3, 0.5, learned=False)(items, valid)[0, -1], torch.tensor([1050 / 1.5]))


def test_only_learned_weights_are_parameters() -> None:
    assert not list(MeanUserEncoder().build(2).parameters())
    assert len(list(MeanUserEncoder(learned=True).build(2).parameters())) == 1


def test_transformer_starts_as_the_recency_mean() -> None:
    torch.manual_seed(0)
    encoder = TransformerUserEncoder(num_heads=2, num_recent=3, decay=0.5).build(4).eval()
    items, valid = torch.randn(2, 5, 4), torch.tensor([[False, True, True, True, True], [True] * 5])
    expected = RecencyMean(3, 0.5, learned=False)(items * valid[..., None], valid)
    with torch.no_grad():
        torch.testing.assert_close(encoder(items * valid[..., None], valid), expected)


def test_heads_must_divide_the_width(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    with pytest.raises(RecipeError, match=r"user\.num_heads: 3 does not divide the width of item vectors, 32"):
        build(make_recipe("user.num_heads=3"), toy_dataset)


def test_scorers() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.equal(DotScorer().prepare(vectors), vectors)
    torch.testing.assert_close(CosineScorer().prepare(vectors), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert LearnedScale(15.0)().item() == pytest.approx(15.0)
    assert CosineScorer().start_scale == 15.0


def test_a_fixed_scale_stays(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    assert LearnedScale(15.0, learned=False)().item() == pytest.approx(15.0)
    learned = build(make_recipe("scorer.start_scale=5.0"), toy_dataset).model
    fixed = build(make_recipe("scorer.start_scale=5.0", "scorer.learn_scale=false"), toy_dataset).model
    assert learned.scale().item() == fixed.scale().item() == pytest.approx(5.0)
    assert len(learned.head_parameters()) == len(fixed.head_parameters()) + 1
    # It belongs to the head all the same: a run folder holds it.
    assert "scale.log_scale" in fixed.head_state()
    assert learned.head_state().keys() == fixed.head_state().keys()


def check_same_top_items(recipe: Any, dataset: Any) -> None:
    built = build(recipe, dataset)
    assert built.base_vectors_NH is not None
    baseline = BASELINES.load("content_knn")().fit(dataset, built.base_vectors_NH)
    model = built.model.eval()
    vectors, bias = model.encode_catalogue()
    generator = np.random.default_rng(0)
    histories = generator.integers(0, len(dataset.catalogue), (20, 12))
    for row, cut in enumerate(generator.integers(0, 12, 20)):
        histories[row, :cut] = -1
    ours = model.scores(torch.from_numpy(histories), vectors, bias)
    theirs = baseline.scores(histories)
    # The same order means: the same scores up to one factor a user.
    torch.testing.assert_close(
        torch.nn.functional.normalize(ours, dim=1), torch.nn.functional.normalize(theirs, dim=1), rtol=0, atol=1e-4
    )
    gaps = theirs.sort(1, descending=True).values.diff(dim=1).abs()[:, :10].min(1).values
    clear = gaps > 1e-5
    assert int(clear.sum()) >= 10
    assert torch.equal(ours.topk(10).indices[clear], theirs.topk(10).indices[clear])


def test_the_untrained_model_is_content_knn(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    check_same_top_items(make_recipe("method.kind=frozen", "user.num_recent=8", "user.decay=0.7"), toy_dataset)


def test_the_untrained_model_is_content_knn_on_minilm(
    make_recipe: Callable[..., Any], toy_dataset: Any, minilm: str
) -> None:
    overrides = ("method.kind=frozen", f"encoder.backbone={minilm}", "user.num_recent=8", "user.decay=0.7")
    check_same_top_items(make_recipe(*overrides), toy_dataset)


def test_lora_starts_from_there_too(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    check_same_top_items(make_recipe("method.layers=1", "user.max_history=12"), toy_dataset)


def test_parameter_groups_hold_every_parameter_once(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    model = build(make_recipe("encoder.inputs=text+ids", "encoder.item_bias=true"), toy_dataset).model
    grouped = [*model.method_parameters(), *model.head_parameters(), *model.id_parameters()]
    assert len(set(map(id, grouped))) == len(grouped)
    assert set(map(id, grouped)) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    counts = model.parameter_counts()
    assert list(counts) == ["lm", "head", "user", "ids"]
    num_items = len(toy_dataset.catalogue)
    assert counts["ids"].trainable == num_items * 33
    assert counts["lm"].trainable == counts["lm"].stored == sum(p.numel() for p in model.method_parameters())
    assert counts["lm"].total == sum(p.numel() for p in model.text_encoder.model.parameters())
    assert counts["lm"].stored_bytes == 4 * counts["lm"].stored
    both = counts["head"].trainable + counts["user"].trainable
    assert (counts["lm"].dtype, both) == ("float32", sum(p.numel() for p in model.head_parameters()))


def test_trained_state_round_trip_and_what_does_not_fit(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe("encoder.inputs=text+ids")
    model, fresh = build(recipe, toy_dataset).model, build(recipe, toy_dataset).model
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.weights_changed()
    fresh.load_trained_state(model.trained_state())
    assert torch.equal(fresh.encode_catalogue()[0], model.encode_catalogue()[0])
    state = model.trained_state()
    state.pop("scale.log_scale")
    with pytest.raises(InputError, match=r"the head does not fit.*scale\.log_scale"):
        fresh.load_trained_state(state)


def test_a_model_is_the_same_for_the_same_seed(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    states = [build(make_recipe("training.seed=5"), toy_dataset).model.trained_state() for _ in range(2)]
    other = build(make_recipe("training.seed=6"), toy_dataset).model.trained_state()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], other[name]) for name in other)


def test_new_items_equal_items_of_the_same_text(
    make_recipe: Callable[..., Any], toy_dataset: Any, tiny_bert: Path
) -> None:
    model = build(make_recipe(), toy_dataset).model
    vectors, _ = model.encode_catalogue()
    new = model.encode_new_items(list(toy_dataset.catalogue.texts[3:5]))
    torch.testing.assert_close(new, vectors[3:5], rtol=0, atol=1e-5)
    ids = build(make_recipe("encoder.inputs=ids", "encoder.embedding_dim=8"), toy_dataset).model
    with pytest.raises(InputError, match="knows ids only"):
        ids.encode_new_items(["a"])
