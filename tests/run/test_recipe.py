"""Recipes: read, overridden, checked before anything loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peftrec.config import RecipeError, section_to_dict
from peftrec.losses import LOSSES
from peftrec.methods import METHODS
from peftrec.recipe import Recipe, load_recipe, recipe_for_evaluation

MINIMAL = "data: {kind: tables, interactions: a.csv, items: b.csv}\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Recipe]:
    def load(*overrides: str, text: str = "") -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(MINIMAL + text, encoding="utf-8")
        return load_recipe(path, overrides)

    return load


def test_the_smallest_recipe(load: Callable[..., Recipe]) -> None:
    recipe = load()
    assert (recipe.data.kind, recipe.data.root, recipe.method.kind) == ("tables", "./data", "lora")
    assert recipe.baseline is None
    assert recipe.optimizer.clip_norm is None


@pytest.mark.parametrize("kind", METHODS.kinds())
def test_each_method_brings_its_own_learning_rate(load: Callable[..., Recipe], kind: str) -> None:
    chosen = [f"method.kind={kind}", *(["method.peft_type=LOHA"] if kind == "peft" else [])]
    assert load(*chosen).optimizer.learning_rate == METHODS.load(kind).default_learning_rate
    assert load(*chosen, "optimizer.learning_rate=5e-3").optimizer.learning_rate == 5e-3


def test_a_learning_rate_is_dropped_only_with_its_method(load: Callable[..., Recipe]) -> None:
    given = "optimizer: {learning_rate: 1e-2}\n"
    for override in ("method.rank=4", "method.kind=lora"):  # lora is the default
        assert load(override, text=given).optimizer.learning_rate == 1e-2
        assert load(override, text=given + "method: {kind: lora}\n").optimizer.learning_rate == 1e-2
    full = METHODS.load("full").default_learning_rate
    assert load("method.kind=full", text=given).optimizer.learning_rate == full
    assert load("method.kind=lora", text=given + "method: {kind: full}\n").optimizer.learning_rate == 3e-4


def test_written_and_read_back(load: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = load("method.layers=2", "evaluation.ks=[5,10]", "baseline.kind=content_knn", "encoder.prefix='no: '")
    path = tmp_path / "resolved.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_overrides(load: Callable[..., Recipe]) -> None:
    recipe = load("optimizer.learning_rate=3e-4", "method.rank=4", "user.num_layers=2", "encoder.embedding_dim=16")
    assert recipe.optimizer.learning_rate == 3e-4
    assert (recipe.method.kind, recipe.method.rank) == ("lora", 4)  # type: ignore[attr-defined]
    assert recipe.user.num_layers == 2  # type: ignore[attr-defined]
    assert load("training.max_steps=null", "encoder.embedding_dim=null") == load()
    assert load("data.columns.user=u").data.columns.user == "u"  # type: ignore[attr-defined]
    assert load("method.layers=2").method.layers == 2
    assert load("method.layers=all").method.layers == "all"
    assert load("encoder.prefix=").encoder.prefix is None


@pytest.mark.parametrize(
    ("text", "override", "section", "expected"),
    [
        ("method: {kind: lora, rank: 4, layers: 2}", "method.kind=full", "method", {"kind": "full", "layers": "all"}),
        ("loss: {kind: full_softmax, mask_seen: none}", "loss.kind=in_batch_softmax", "loss",
         section_to_dict(LOSSES.load("in_batch_softmax")())),
        ("user: {kind: transformer, num_layers: 3, max_history: 7}", "user.kind=mean", "user",
         {"kind": "mean", "max_history": 50, "decay": 1.0, "learned": False}),
    ],
)  # fmt: skip
def test_another_kind_starts_from_its_defaults(
    load: Callable[..., Recipe], text: str, override: str, section: str, expected: dict[str, object]
) -> None:
    assert load(override, text=text + "\n").to_dict()[section] == expected
    # The order on the command line does not matter.
    assert load("training.seed=3", override, text=text + "\n").to_dict()[section] == expected


def test_kind_overrides_come_before_others(load: Callable[..., Recipe]) -> None:
    assert load("user.decay=0.5", "user.kind=mean").user.decay == 0.5  # type: ignore[attr-defined]


def test_the_same_kind_keeps_its_section(load: Callable[..., Recipe]) -> None:
    assert load("method.kind=lora", text="method: {kind: lora, rank: 4}\n").method.rank == 4  # type: ignore[attr-defined]


def test_kind_of_a_split(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {kind: tables, interactions: a, items: b, split: {kind: leave_one_out}}\n")
    split = load_recipe(path, ["data.split.kind=global_time"]).data.split
    assert split.kind == "global_time"


def test_a_field_of_a_default_split_can_be_overridden(load: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"data\.split\.nonsense: unknown key"):
        load("data.split.nonsense=1")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method.rank", "expected key=value"),
        ("=3", "expected key=value"),
        ("method..rank=3", "expected key=value"),
        ("method.rank.x=3", r"method\.rank\.x: 'method\.rank' is a value, not a section"),
        ("output_dir.x=3", r"'output_dir' is a value, not a section"),
        ("metod.rank=3", r"metod: unknown key\. Did you mean 'method'\?"),
        ("method.rnk=3", r"method\.rnk: unknown key\. Did you mean 'rank'\?"),
        ("method.rank=three", r"method\.rank: expected a whole number, found 'three'"),
        ("method.rank=0", r"method\.rank: 0 is out of range; it must be >= 1"),
        ("method.kind=lorra", r"method\.kind: unknown kind 'lorra' \(str\)\. Did you mean 'lora'\?"),
        ("method.kind=[lora]", r"method\.kind: unknown kind"),
        ("method.layers=top", r"method\.layers: "),
        ("training.seed=[1", "override 'training.seed=.1', line 1"),
        ("optimizer.learning_rate=1e-3x", r"optimizer\.learning_rate: expected a number, found '1e-3x' \(str\)"),
        ("output_dir=' '", "output_dir: is empty"),
        ("training.metric=ndcg@20", r"training\.metric: 'ndcg@20' is not evaluated; there are hr@10"),
        ("training.metric=map@5", r"training\.metric: 'map@5' is not evaluated; .* recall@10, precision@10, map@10"),
        ("training.warmup_frozen_epochs=10", r"training\.warmup_frozen_epochs: 10 of 10 epochs"),
        ("encoder.backbone=' '", "encoder.backbone: is empty"),
        ("encoder.embedding_dim=30", "user.num_heads: 4 does not divide the width of item vectors, 30"),
        ("encoder.token_budget=20", "encoder.token_budget: 20 is smaller than one text"),
        ("encoder.item_bias=true", "encoder.item_bias: belongs to the ids"),
        ("encoder.inputs=ids", "encoder.embedding_dim: with inputs: ids"),
        ("scorer.learn_scale=3", r"scorer\.learn_scale: expected true or false"),
        ("loss.kind=squared_error", r"data\.ratings: is false, but loss\.kind: squared_error learns how events were"),
        ("data.ratings=true", r"data\.ratings: is read by nothing; use loss\.kind: squared_error"),
        ("training.trackers=[tensorbord]", r"training\.trackers\[0\]: .*Did you mean 'tensorboard'"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(load: Callable[..., Recipe], override: str, expected: str) -> None:
    text = "method: {kind: lora, rank: 4}\noutput_dir: runs/x\n"
    with pytest.raises(RecipeError, match=expected) as caught:
        load(override, text=text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "loss",
    [
        "{kind: in_batch_softmax}",
        "{kind: sampled_softmax}",
        "{kind: bpr}",
        "{kind: bce, negatives: {kind: hard}}",
        "{kind: gbce, negatives: {kind: batch}}",
        "{kind: squared_error}",
    ],
)
def test_an_interval_needs_candidates_that_stay(load: Callable[..., Recipe], loss: str) -> None:
    overrides = [f"loss={loss}", *(["data.ratings=true"] if "squared" in loss else [])]
    load(*overrides)
    with pytest.raises(
        RecipeError, match=r"training\.encoder_interval: 2 needs a loss over the catalogue; \w+ encodes"
    ):
        load(*overrides, "training.encoder_interval=2")
    over_catalogue = "loss={kind: bpr, negatives: {kind: catalogue}}"
    assert load(over_catalogue, "training.encoder_interval=2").loss.candidates == "catalogue"


def test_ratings_do_not_matter_to_a_baseline(load: Callable[..., Recipe]) -> None:
    assert load("baseline.kind=popularity", "data.ratings=true").data.ratings
    assert load("baseline.kind=popularity", "loss.kind=squared_error").loss.needs_ratings


def test_negatives_are_a_section_of_the_loss(load: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = load("loss.kind=sampled_softmax", "loss.negatives.kind=popularity", "loss.negatives.power=0.5")
    assert recipe.to_dict()["loss"]["negatives"] == {"kind": "popularity", "num": 512, "power": 0.5}
    path = tmp_path / "resolved.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe
    # A number alone keeps the kind; another kind starts from its own defaults.
    assert load_recipe(path, ["loss.negatives.num=7"]).to_dict()["loss"]["negatives"]["power"] == 0.5
    hard = load_recipe(path, ["loss.negatives.kind=hard"]).to_dict()["loss"]["negatives"]
    assert hard == {"kind": "hard", "num": 256, "per_user": 2, "depth": 50, "refresh_batches": None}
    assert load("loss.kind=bpr", "loss.negatives.num=9").to_dict()["loss"]["negatives"] == {"kind": "uniform", "num": 9}


def test_the_file_is_named(load: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=rf"^{tmp_path}/recipe\.yaml: encoder\.poling: unknown key\. Did you mean 'pooling'"
    ):
        load(text="encoder: {poling: mean}\n")


def test_checking_needs_neither_torch_data_nor_backbone(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {kind: tables, root: /nowhere, interactions: a, items: b}\nencoder: {backbone: no/model}\n")
    assert load_recipe(path).encoder.backbone == "no/model"


def test_import_is_light() -> None:
    code = "import peftrec, sys; assert not {'torch', 'transformers', 'polars', 'peft'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "override",
    [
        "data.sessions.gap_minutes=30",
        "data.event_weights={view: 1}",
        "data.weigh_counts=true",
        "data.min_target_weight=1",
        "data.cleaning.bot_events=100",
        "data.split.targets=all",
    ],
)
def test_a_run_is_not_evaluated_on_other_targets(load: Callable[..., Recipe], override: str) -> None:
    with pytest.raises(RecipeError, match="targets would be events that the run was trained on"):
        recipe_for_evaluation(load(), [override])
