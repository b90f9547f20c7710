"""The card of a run folder says what the other files say, and no more."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from peftrec.baselines import BASELINES
from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
from peftrec.ensembling import ensemble
from peftrec.methods import METHODS, BaseModel
from peftrec.publishing import load_run
from peftrec.publishing.card import About, make_card, require_license, write_card
from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.place import shown_name
from peftrec.publishing.card.writing import card_text
from peftrec.recipe import Recipe, load_recipe
from peftrec.reporting import report
from peftrec.run import train

# What each method needs on the tiny backbone, and which folders plain `peft` reads.
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4}, "adalora": {"initial_rank": 4, "target_rank": 2}, "adapter": {"reduction_factor": 4},
    "side": {"width": 8}, "prompt": {"num_tokens": 3}, "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "vera": {"rank": 8}, "oft": {"block_size": 8}, "peft": {"peft_type": "LOHA", "settings": {"r": 2}},
}  # fmt: skip
PLAIN_PEFT = {"lora", "adalora", "layernorm", "prompt", "p_tuning", "vera", "oft", "peft", "ia3"}
NOT_TAGGED_PEFT = {"full", "frozen"}
TEXTS = ["small red wine. wine", "green tea", "large old blue goat cheese. cheese"]


@pytest.fixture(scope="module")
def reported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run, with a full report."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("reported") / "run"))
    report(folder)
    return folder


def stored(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    return load_recipe(folder / "recipe.yaml"), json.loads((folder / "metrics.json").read_text())


def card_of(folder: Path, *, change: Callable[[dict[str, Any]], None] | None = None, **given: Any) -> str:
    recipe, metrics = stored(folder)
    if change is not None:
        change(metrics)
    return make_card(folder, given.pop("recipe", recipe), metrics, 40, **given)


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def foreign_figures(card: str, metrics: dict[str, Any]) -> set[str]:
    """Return decimal numbers and numbers with commas of a card that `metrics.json` does not hold."""
    known = {form for value in numbers(metrics) for form in forms(abs(value))}
    rows = metrics.get("parameters", [])
    known |= {f"{100 * row['trainable'] / row['total']:.2f}" for row in rows if row["total"]}
    known |= {f"{sum(row['stored_bytes'] for row in rows):,}"}
    body = card.partition("\n---\n")[2]
    text = re.sub(r"(?ms)```.*?```|`[^`]*`|## Sources.*|^- (Versions|Machine)[^\n]*", "", body)
    # What the documentation of a choice says holds formulas.
    text = re.sub(r"(?s)## What was trained.*?\n## Data", "", text)
    return set(re.findall(r"\d+(?:,\d{3})+|\d+\.\d+", text)) - known


def forms(value: float) -> list[str]:
    return [
        f"{value:.4f}",
        f"{value:.6f}",
        f"{100 * value:.1f}",
        f"{value:.2f}",
        f"{value:,.1f}",
        f"{value:,.0f}",
        f"{value:,}",
    ]


def tables(card: str) -> list[list[list[str]]]:
    """Return the texts of all cells as a reader sees them."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(card.partition("\n---\n")[2]):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level >= 4:
            found[-1][-1].append("".join(part.content for part in token.children or []))
    return found


def test_the_card_has_the_figures_of_the_run(reported: Path) -> None:
    card, (_, metrics) = card_of(reported), stored(reported)
    assert foreign_figures(card, metrics) == set()
    assert foreign_figures(card.replace("0.8", "0.7"), metrics), "the check finds what is not there"
    (results,) = [found for found in tables(card) if found[0] == ["metric", "this run", "popularity", "content_knn"]]
    for key, value in metrics["test"]["model"]["metrics"].items():
        if key.startswith(("hr", "ndcg", "mrr")):
            low, high = metrics["test"]["model"]["intervals"][key]
            assert [key, f"{value:.4f} [{low:.4f}, {high:.4f}]"] in [row[:2] for row in results]
    sizes = next(found for found in tables(card) if found[0][0] == "part" and "bytes" in found[0])
    assert [row[0] for row in sizes[1:]] == [row["part"] for row in metrics["parameters"]]
    slices = next(found for found in tables(card) if "slice" in found[0])
    told = [(entry["kind"], entry["name"]) for entry in metrics["test"]["slices"] if entry["num_users"] >= 10]
    assert [(row[0], row[1]) for row in slices[1:]] == told
    assert len(told) < len(metrics["test"]["slices"]), "one of few users is left out"
    lists = next(found for found in tables(card) if "what it is" in found[0])
    assert {"popularity_lift@10", "novelty@10", "coverage@10", "gini@10"} <= {row[0] for row in lists}
    load_run(reported)


def test_what_was_not_measured_is_not_told(trained: Path) -> None:
    card = card_of(trained)
    assert "Not measured: how the run does on items that nobody had in training" in card
    assert "Not measured: popularity lift" in card
    assert not any("slice" in found[0] for found in tables(card))
    bare = card_of(trained, change=lambda metrics: [metrics.pop(key) for key in ("test", "cleaning", "training")])
    assert "Nothing was measured on test cases." in bare
    assert ModelCard(bare).data.eval_results is None
    assert "## Training" not in bare


def test_metadata_are_the_hubs_and_round_trip(reported: Path) -> None:
    about = About(license="cc-by-4.0", language=("en", "no"), datasets=("org/set",), name="A: #1 | recommender")
    card = ModelCard(card_of(reported, about=about, repo_id="someone/wines"))
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    data, (_, metrics) = card.data, stored(reported)
    assert (data.license, data.language, data.datasets) == ("cc-by-4.0", ["en", "no"], ["org/set"])
    assert (data.library_name, data.pipeline_tag) == ("peftrec", "feature-extraction")
    assert data.tags == ["recommendation", "peft", "lora"]
    assert data.model_name == "A: #1 | recommender"
    assert [result.metric_type for result in data.eval_results] == ["hr@10", "ndcg@10", "mrr@10", "auc"]
    row = metrics["test"]["model"]
    for result in data.eval_results:
        assert result.metric_value == row["metrics"][result.metric_type]
        assert result.metric_args["interval"] == row["intervals"][result.metric_type]
        assert result.metric_args["interval_level"] == 0.95
        assert (result.dataset_type, result.dataset_split) == ("org/set", "test")
        assert result.dataset_args.items() >= row["protocol"].items()
        assert result.dataset_args["split_kind"] == "leave_one_out"
    assert 'Recommender.from_pretrained("someone/wines")' in card.text
    assert "[org/set](https://huggingface.co/datasets/org/set)" in card.text


def test_a_card_without_license_is_refused(trained: Path) -> None:
    local = (trained / "README.md").read_text()
    assert "**Licence:** none is stated" in local
    with pytest.raises(InputError, match=r"states no licence.*--license apache-2\.0"):
        require_license(local)
    with pytest.raises(InputError, match="metadata cannot be read"):
        require_license("---\n- no mapping\n---\n")
    require_license(card_of(trained, about=About(license="mit")))
    other = card_of(trained, about=About(license="other", license_name="Ours", license_link="https://a.example/b"))
    require_license(other)
    assert ModelCard(other).data.license_name == "Ours"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"license": "Apache 2.0"}, "no identifier of the Hub's, such as apache-2.0"),
        ({"license": "other"}, "needs a license_name"),
        ({"license": "mit", "license_name": "MIT"}, "go with license 'other'"),
        ({"language": ("English",)}, "'English' is no code such as en"),
        ({"language": ("zh-CN",)}, "'zh-CN' is no code"),
        ({"datasets": ("my data",)}, "neither a Hub id"),
        ({"name": " "}, "name: is empty"),
        ({"base_model": "/home/me/bert"}, "is no Hub id"),
    ],
)
def test_what_the_hub_would_refuse_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        About(**wrong)


def test_nothing_of_the_machine_or_its_users_stands_in_a_card(reported: Path, make_recipe: Callable[..., Any]) -> None:
    recipe, _ = stored(reported)
    for card in (card_of(reported), (reported / "README.md").read_text()):
        for path in (recipe.encoder.backbone, recipe.data.root, recipe.output_dir, str(Path.home()), "/tmp"):
            assert path not in card
        assert re.search(r"\bu\d+\b", card) is None
    home = make_recipe("encoder.backbone=/home/alice", output_dir=Path("/Users/alice"))
    home = make_recipe("encoder.backbone=/home/alice", "data.root=/home/alice", "data.interactions=/home/alice/a.csv",
                       output_dir=Path("/Users/alice"))  # fmt: skip
    card = card_of(reported, recipe=home)
    assert "alice" not in card
    assert ModelCard(card).data.base_model is None
    assert "a local folder" in card


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/bert", "bert"), ("models/bert/", "bert"), ("/home/alice", None), ("C:\\Users\\alice", None),
        ("C:\\models\\bert", "bert"), ("~", None), ("~alice", None), ("/", None), (".", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_folders(path: str, name: str | None) -> None:
    assert shown_name(path) == name


def test_signs_of_markdown_stay_texts(reported: Path, make_recipe: Callable[..., Any]) -> None:
    nasty = "a|b_c*d<i>e`f\ng [h](i) $j$ &amp; \\|"
    line = " ".join(nasty.split())

    def change(metrics: dict[str, Any]) -> None:
        for entry in metrics["test"]["slices"]:
            entry["name"] = nasty
        metrics["test"]["exposure"][0]["name"] = nasty
        metrics["cleaning"]["rows"][0] |= {"step": nasty, "removed": 3}

    recipe = make_recipe(f"data.template={json.dumps('{title} | `` {category} |')}")
    card = card_of(reported, recipe=recipe, change=change, about=About(name=nasty))
    found = tables(card)
    assert len(found) == len(tables(card_of(reported)))
    for table in found:
        assert {len(row) for row in table} == {len(table[0])}
    cells = [cell for table in found for row in table for cell in row]
    assert cells.count(line) == sum(entry["num_users"] >= 10 for entry in stored(reported)[1]["test"]["slices"]) + 2
    tokens = MarkdownIt("commonmark").parse(card.partition("\n---\n")[2])
    assert "".join(part.content for part in tokens[1].children or []) == line
    spans = [part.content for token in tokens for part in token.children or [] if part.type == "code_inline"]
    assert "{title} | `` {category} |" in spans
    assert not any(part.type == "html_inline" for token in tokens for part in token.children or [])


def test_other_runs_stand_beside_if_they_may(reported: Path) -> None:
    _, metrics = stored(reported)
    full = json.loads(json.dumps(metrics))
    full["test"]["model"]["metrics"]["ndcg@10"], full["test"]["model"]["intervals"]["ndcg@10"] = 0.9876, [0.98, 0.99]
    card = card_of(reported, others={"full fine-tuning": full})
    (row,) = [row for found in tables(card) for row in found if row[0] == "ndcg@10" and "0.9876" in row[-1]]
    assert row[-1] == "0.9876 [0.9800, 0.9900]"
    assert "this run lies **below** the best of these, `full fine-tuning`" in card
    for change, told in (
        (lambda other: other.update(data_sha256="0"), "other data or by another protocol"),
        (
            lambda other: other["test"]["model"]["protocol"].update(history="ranked"),
            "other data or by another protocol",
        ),
        (lambda other: other.pop("test"), "holds no test results"),
    ):
        other = json.loads(json.dumps(full))
        change(other)
        with pytest.raises(InputError, match=told):
            card_of(reported, others={"other": other})
    with pytest.raises(InputError, match="'popularity': is what a row of the run itself is called"):
        card_of(reported, others={"popularity": full})
    with pytest.raises(InputError, match="no id of a repository"):
        card_of(reported, repo_id="/tmp/run")


@pytest.mark.parametrize(
    "overrides",
    [(), ("method={kind: prompt, num_tokens: 3}",), ("encoder.pooling=cls",), ("llama",)],
    ids=["lora", "prompt", "cls", "llama"],
)
def test_the_lines_for_plain_peft_give_our_vectors(
    overrides: tuple[str, ...], make_recipe: Callable[..., Any], trained: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = trained
    if overrides:
        changes = (f"encoder.backbone={tiny_llama}",) if overrides == ("llama",) else overrides
        folder = tmp_path / "run"
        train(make_recipe(*changes, "encoder.prefix='small: '", "training.num_epochs=1", output_dir=folder))
    run = load_run(folder)
    card = card_of(folder)
    (code,) = re.findall(r"(?s)### Without peftrec.*?```python\n(.*?)\n```", card)
    code = code.replace("path/to/backbone", run.recipe.encoder.backbone).replace("path/to/this/folder", str(folder))
    code = re.sub(r"^texts = .*$", f"texts = {TEXTS!r}", code, flags=re.M)
    scope: dict[str, Any] = {}
    exec(code, scope)
    encoder = run.models[0].text_encoder
    assert encoder is not None
    with torch.no_grad():
        torch.testing.assert_close(scope["vectors"], encoder.encode(encoder.tokenize(TEXTS)), atol=1e-5, rtol=1e-5)


def test_cards_of_other_runs(make_recipe: Callable[..., Any], trained: Path, tmp_path: Path, minilm: str) -> None:
    train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "baseline"))
    card = ModelCard.load(tmp_path / "baseline" / "README.md")
    assert "A baseline, `popularity`, over 40 items" in card.content
    assert (card.data.tags, card.data.pipeline_tag) == (["recommendation", "baseline", "popularity"], None)
    assert "Without peftrec" not in card.content
    ensemble([trained, tmp_path / "baseline"], tmp_path / "both")
    card = ModelCard.load(tmp_path / "both" / "README.md")
    assert card.data.tags == ["recommendation", "ensemble"]
    assert "`1_run` (0.5), `2_baseline` (0.5)" in card.content
    assert "## What was trained" not in card.content, "what the recipe says of a model holds for one member alone"
    assert "lora" not in card.content.replace("members/", "")
    recipe = make_recipe(
        f"encoder.backbone={minilm}", "method.layers=1", "training.num_epochs=1",
        "profile={method: {kind: bitfit, layers: 1}, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}",
        output_dir=tmp_path / "run",
    )  # fmt: skip
    train(recipe)
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert (card.data.base_model, card.data.base_model_relation) == (minilm, "adapter")
    assert "texts of users by the same backbone with `bitfit` of their own." in card.content
    assert f'AutoModel.from_pretrained("{minilm}"' in card.content
    # Written on a machine that has no such folder, it is a local one still.
    manifest = json.loads((tmp_path / "run" / "peftrec.json").read_text())
    manifest["backbone"]["local"] = True
    (tmp_path / "run" / "peftrec.json").write_text(json.dumps(manifest))
    assert ModelCard(card_of(tmp_path / "run")).data.base_model is None


def test_damaged_files_beside_are_named(copy: Path) -> None:
    (copy / "environment.json").write_text("{")
    recipe, metrics = stored(copy)
    with pytest.raises(InputError, match=r"environment\.json: is damaged"):
        write_card(copy, recipe, metrics, 40)


@pytest.mark.parametrize("kind", METHODS.kinds())
def test_every_method_has_a_right_card(
    kind: str, make_recipe: Callable[..., Any], reported: Path, tiny_bert: Path
) -> None:
    settings = json.dumps({"kind": kind, **SETTINGS.get(kind, {})})
    recipe, (_, metrics) = make_recipe(f"method={settings}", "encoder.backbone=org/base"), stored(reported)
    method = TextEncoder(load_backbone(str(tiny_bert)), EncoderConfig(max_tokens=16), recipe.method).method
    adapter = method.adapter_config(BaseModel(name="org/base", revision="abc"))
    assert (adapter is None) == (kind == "frozen")
    about = About(license="mit")
    text = card_text(Facts(recipe=recipe, metrics=metrics, num_items=40, adapter=adapter, about=about, repo_id="a/b"))
    card = ModelCard(text)
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    assert foreign_figures(text, metrics) == set()
    require_license(text)
    assert card.data.base_model == "org/base"
    assert card.data.base_model_relation == ("finetune" if kind == "full" else "adapter")
    assert kind in card.data.tags
    assert ("peft" in card.data.tags) == (kind not in NOT_TAGGED_PEFT)
    assert len(card.data.tags) == len(set(card.data.tags))
    assert ("PeftModel.from_pretrained" in text) == (kind in PLAIN_PEFT)
    if kind in PLAIN_PEFT:
        assert 'AutoModel.from_pretrained("org/base", revision="abc")' in text
        assert ("last_hidden_state[:, 3:]" in text) == (kind in ("prompt", "p_tuning"))
    elif kind == "frozen":
        assert "leaves no adapter to load" in text
    else:
        assert f"Plain `peft` does not have the method `{kind}`" in text
        assert ("register_with_peft" in text) == (kind != "side")
    assert ("- Method `" in text) == ("Source:" in (type(recipe.method).__doc__ or ""))
    for table in tables(text):
        assert {len(row) for row in table} == {len(table[0])}


@pytest.mark.parametrize("kind", BASELINES.kinds())
def test_every_baseline_has_a_right_card(kind: str, make_recipe: Callable[..., Any], reported: Path) -> None:
    recipe = make_recipe(f"baseline.kind={kind}", "encoder.backbone=org/base")
    metrics = {**stored(reported)[1], "parameters": [], "training": {"train_seconds": 1.5, "peak_memory_mib": 2.0}}
    del metrics["texts"]
    text = card_text(Facts(recipe=recipe, metrics=metrics, num_items=40))
    data = ModelCard(text).data
    assert foreign_figures(text, metrics) == set()
    assert (data.tags, data.base_model, data.pipeline_tag) == (["recommendation", "baseline", kind], None, None)
    assert ("It reads item texts through [org/base]" in text) == recipe.baseline.needs_item_vectors
    assert ("An item's text is made as" in text) == recipe.baseline.needs_item_vectors
    for absent in ("Without peftrec", "add_items", "lora", "transformer", "## Size"):
        assert absent not in text
    assert "- Fitted in 1.5 s; peak memory 2 MiB." in text


def test_a_run_of_ids_claims_no_language_model(make_recipe: Callable[..., Any], reported: Path) -> None:
    text = card_text(facts_of(make_recipe("encoder.inputs=ids", "encoder.embedding_dim=16"), reported))
    data = ModelCard(text).data
    assert (data.tags, data.base_model, data.pipeline_tag) == (["recommendation"], None, None)
    assert "knows items by their ids only" in text
    assert "new items need a new training" in text
    for absent in ("lora", "add_items", "Without peftrec", "backbone |"):
        assert absent not in text


def test_limits_are_those_of_the_recipe(make_recipe: Callable[..., Any], reported: Path) -> None:
    plain = card_text(facts_of(make_recipe("encoder.backbone=org/base"), reported))
    for absent in ("bitsandbytes and", "needs the time", "times=", "user_attributes", "texts about users"):
        assert absent not in plain
    quantized = card_text(facts_of(make_recipe("encoder.backbone=org/base", "encoder.quantization=nf4"), reported))
    assert "Its backbone is quantised (`nf4`): it needs bitsandbytes" in quantized
    assert "nf4" in ModelCard(quantized).data.tags
    timed = card_text(facts_of(make_recipe("user.time_intervals=true"), reported))
    assert "It needs the time of every event" in timed
    assert "k=10, times=[" in timed
    told = ("data.users=users.csv", "data.user_attributes={age_range: {kind: categorical}}", "profile={}",
            "data.user_template='{age}'", "data.event_words={view: viewed, buy: bought}")  # fmt: skip
    users = card_text(facts_of(make_recipe(*told, "encoder.max_tokens=16"), reported))
    assert 'user_attributes={"age_range": "..."}' in users
    assert 'events=["view", "buy"]' in users
    assert "It reads `age_range` of the user" in users
    assert "It reads texts about users" in users


def test_known_data_bring_their_names_and_terms(make_recipe: Callable[..., Any], reported: Path) -> None:
    known = card_text(facts_of(make_recipe("data.kind=movielens", "data.folder=ml-100k"), reported))
    assert ModelCard(known).data.datasets == ["movielens-ml-100k"]
    assert "Source: MovieLens (ml-100k). Terms of use: GroupLens: for research; no redistribution" in known
    hub = make_recipe("data.kind=datasets", "data.path=org/set", "data.interactions={}", "data.items={}")
    assert ModelCard(card_text(facts_of(hub, reported))).data.datasets == ["org/set"]
    own = card_text(facts_of(make_recipe(), reported))
    assert ModelCard(own).data.datasets is None
    assert "Source: unnamed tables, read as `tables`; peftrec does not know its terms of use." in own


def facts_of(recipe: Recipe, folder: Path) -> Facts:
    return Facts(recipe=recipe, metrics=stored(folder)[1], num_items=40)
