"""Users' texts in whole runs: trained, saved, reloaded, evaluated, recommended from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peftrec.cli import main
from peftrec.config import InputError, RecipeError
from peftrec.evaluating import evaluate
from peftrec.publishing import load_run
from peftrec.recommender import Recommender
from peftrec.run import train

PROFILE = "profile={method: {kind: lora, rank: 4}, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}"


@pytest.mark.parametrize(
    ("family", "fusion"),
    [
        ("bert", "add"),
        ("llama", "alone"),
        pytest.param("bert", "alone", marks=pytest.mark.slow),
        pytest.param("llama", "add", marks=pytest.mark.slow),
    ],
)
def test_a_run_with_texts_of_users(
    family: str, fusion: str, backbones: dict[str, Path], make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    overrides = (f"encoder.backbone={backbones[family]}", PROFILE, f"profile.fusion={fusion}")
    recipe = make_recipe(*overrides, output_dir=tmp_path / "run")
    lines: list[str] = []
    metrics = train(recipe, report=lines.append)
    assert any("profiles: 60 users" in line for line in lines)
    assert any("lora for users changes" in line for line in lines)
    assert metrics["texts"]["num_profiles"] == 60
    parts = {row["part"]: row for row in metrics["parameters"]}
    assert parts["user_lm"]["trainable"] == parts["lm"]["trainable"] > 0
    run = load_run(tmp_path / "run")
    for adapter in ("adapter_model.safetensors", "user_adapter/adapter_model.safetensors"):
        moved = [t for name, t in load_file(tmp_path / "run" / adapter).items() if "lora_B" in name]
        assert all(bool(tensor.any()) for tensor in moved)
    again = evaluate(run)
    assert again["model"]["metrics"] == pytest.approx(metrics["test"]["model"]["metrics"])
    assert json.loads((tmp_path / "run" / "peftrec.json").read_text())["files"].keys() >= {
        "user_adapter/adapter_config.json",
        "user_adapter/adapter_model.safetensors",
    }
    recommender = Recommender(run)
    assert len(recommender.recommend(["wine0", "wine1"], k=3)) == 3


@pytest.fixture(scope="module")
def told(
    write_toy: Callable[[Path], Path], make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that knows users' ages and kinds of events, and shares the items' adapter."""
    data = write_toy(tmp_path_factory.mktemp("told"))
    rows = (data / "interactions.csv").read_text().splitlines()
    kinds = [f"{row},{'view' if number % 3 else 'buy'}" for number, row in enumerate(rows[1:])]
    (data / "interactions.csv").write_text("\n".join([f"{rows[0]},event", *kinds]) + "\n")
    users = sorted({row.split(",")[0] for row in rows[1:]})
    (data / "users.csv").write_text("user_id,taste\n" + "".join(f"{user},goat\n" for user in users[:-1]))
    recipe = make_recipe(
        "data.users=users.csv", "data.user_template='{taste}'", "data.event_words={view: saw, buy: got}",
        "profile={method: null, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}",
        output_dir=data / "run", data=data,
    )  # fmt: skip
    metrics = train(recipe)
    assert "user_lm" not in {row["part"] for row in metrics["parameters"]}
    return data / "run"


def test_attributes_reach_the_list(told: Path) -> None:
    run = load_run(told)
    assert not (told / "user_adapter").exists()
    again = evaluate(run)
    stored = json.loads((told / "metrics.json").read_text())
    assert again["same_data"]
    assert again["model"]["metrics"] == pytest.approx(stored["test"]["model"]["metrics"])
    recommender = Recommender(run)
    scores = [
        [entry.score for entry in recommender.recommend(["wine0"], k=3, attributes=attributes)]
        for attributes in (None, "goat", "mint tea")
    ]
    assert scores[0] != scores[1] != scores[2]
    # Nobody's attributes are written into what may be published.
    # The recipe names their columns, and stands in the manifest too.
    named = {path.name for path in told.glob("*") if path.is_file() and b"taste" in path.read_bytes()}
    assert named <= {"recipe.yaml", "peftrec.json"}
    manifest = json.loads((told / "peftrec.json").read_text())
    assert "taste" not in json.dumps({name: value for name, value in manifest.items() if name != "recipe"})


def test_a_user_without_history_is_known_by_attributes(told: Path) -> None:
    recommender = Recommender.from_pretrained(told)
    popular = [entry.item_id for entry in recommender.recommend([], k=5)]
    assert [entry.item_id for entry in recommender.recommend([], k=5, attributes=" ")] == popular
    assert [entry.item_id for entry in recommender.recommend([], k=5, attributes="goat cheese")] != popular
    lists = recommender.recommend_batch([[], ["wine0"]], k=2, attributes=["goat", ""])
    assert [len(entries) for entries in lists] == [2, 2]
    with pytest.raises(InputError, match="1 attributes for 2 histories"):
        recommender.recommend_batch([[], []], attributes=["goat"])


def test_kinds_of_events_reach_the_list(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recommender = Recommender.from_pretrained(told)
    history = ["wine0", "tea1"]
    saw, got = (recommender.recommend(history, k=3, events=[kind, kind]) for kind in ("view", "buy"))
    assert saw == recommender.recommend(history, k=3)
    assert [entry.score for entry in saw] != [entry.score for entry in got]
    with pytest.raises(InputError, match="'bye' is not a kind of event of this run; there are view, buy"):
        recommender.recommend(history, events=["view", "bye"])
    with pytest.raises(InputError, match="one kind for each item"):
        recommender.recommend(history, events=["view"])
    words = ["recommend", str(told), "--history", "wine0,tea1", "--events", "buy,buy", "--k", "3", "--json"]
    assert main([*words, "--attributes", ""]) == 0
    assert [row["score"] for row in json.loads(capsys.readouterr().out)] == pytest.approx([e.score for e in got])


def test_an_audience_is_told_texts_and_kinds(told: Path) -> None:
    recommender = Recommender.from_pretrained(told)
    history = ["wine0", "wine1"]
    kinds = list(recommender.recipe.data.event_words or ())
    events = {"a": [kinds[0], kinds[0]], "b": [kinds[-1], kinds[-1]]}
    texts = {"a": "likes tea", "b": "likes cheese"}
    found = dict(recommender.audience("tea3", {"a": history, "b": history}, attributes=texts, events=events))
    for name, rank in found.items():
        entries = recommender.recommend(history, k=1000, attributes=texts[name], events=events[name])
        assert rank == next(entry.rank for entry in entries if entry.item_id == "tea3")


def test_a_new_item_may_stand_in_a_history(told: Path) -> None:
    recommender = Recommender.from_pretrained(told)
    recommender.add_items(["new"], ["iced green tea. tea"])
    assert len(recommender.recommend(["wine0", "new"], k=4)) == 4


def test_attributes_are_refused_where_nothing_reads_them(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(make_recipe("training.num_epochs=1", output_dir=tmp_path / "run"))
    with pytest.raises(InputError, match="this run reads no users' texts"):
        Recommender.from_pretrained(tmp_path / "run").recommend(["wine0"], attributes="goat")


def test_plain_peft_reads_the_users_adapter(
    make_recipe: Callable[..., Any], tmp_path: Path, backbones: dict[str, Path]
) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    train(make_recipe(PROFILE, "training.num_epochs=1", output_dir=tmp_path / "run"))
    model = load_run(tmp_path / "run").model
    assert model is not None
    assert model.profiles is not None
    plan = model.profiles.plan(torch.tensor([[1, 2, 3]]).numpy(), None, None)
    expected = model.profiles.vectors(plan).vectors_RH
    base = AutoModel.from_pretrained(str(backbones["bert"]))
    plain = PeftModel.from_pretrained(base, str(tmp_path / "run"), subfolder="user_adapter").eval()
    with torch.no_grad():
        states = plain(input_ids=plan.texts.tokens_T[None]).last_hidden_state
    torch.testing.assert_close(states[0].mean(0), expected[0], rtol=0, atol=1e-5)


def test_a_lost_users_adapter_is_named(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(make_recipe(PROFILE, "training.num_epochs=1", output_dir=tmp_path / "run"))
    (tmp_path / "run" / "user_adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"user_adapter/adapter_model\.safetensors: is missing from the run folder"):
        load_run(tmp_path / "run")
    with pytest.raises(RecipeError, match=r"profile\.method\.kind: unknown kind 'lroa'"):
        make_recipe("profile={method: {kind: lroa}}")
