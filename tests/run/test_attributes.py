"""Attributes in whole runs: trained, saved, loaded, evaluated, recommended from; and new items and users."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftrec.build import build
from peftrec.cli import main
from peftrec.config import InputError, RecipeError
from peftrec.data import load_dataset
from peftrec.evaluating import evaluate
from peftrec.publishing import load_run
from peftrec.publishing.manifest import file_table, sealed
from peftrec.recommender import Recommender
from peftrec.run import train

OF_ITEMS = (
    "data.item_attributes={price: {kind: numeric, log1p: true}, category: {kind: categorical}, "
    "released: {kind: date, cyclic: [month]}, tags: {kind: multi}}"
)
OF_USERS = ("data.users=users.csv", "data.user_attributes={age: {kind: numeric}, job: {kind: categorical}}")
SETTINGS = "attributes={embedding_dim: 4, hidden_dim: 8, dropout: 0.0}"
KINDS = ("wine", "cheese", "bread", "tea")
HISTORY = ["wine0", "wine1"]


@pytest.fixture(scope="module")
def data(write_toy: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data with columns that tell the kinds of items, and of users, apart."""
    folder = write_toy(tmp_path_factory.mktemp("attributed"))
    rows = [row.split(",") for row in (folder / "items.csv").read_text().splitlines()[1:]]
    lines = ["item_id,title,category,price,released,tags"]
    for number, (item, title, category) in enumerate(rows):
        price = "" if number % 7 == 3 else str(10 ** KINDS.index(category) + number)
        lines.append(
            f"{item},{title},{category},{price},20{10 + number % 9}-0{1 + number % 9}-01,{'|'.join(title.split())}"
        )
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    events = [row.split(",") for row in (folder / "interactions.csv").read_text().splitlines()[1:]]
    kind = {user: item[:-1] for user, item, _ in events}
    lines = ["user_id,age,job"]
    lines += [f"{user},{20 + 10 * KINDS.index(kind[user])},{kind[user]}" for user in list(kind)[:-1]]
    (folder / "users.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def make(data: Path, make_recipe: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *overrides, **settings: make_recipe(OF_ITEMS, *OF_USERS, SETTINGS, *overrides, **settings, data=data)


@pytest.fixture(scope="module")
def run(make: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    lines: list[str] = []
    metrics = train(make("encoder.inputs=text+ids", output_dir=folder), report=lines.append)
    of_items = "price (numeric), category (categorical, 4 values), released (date), tags (multi, "
    assert any(line.startswith(f"attributes of items: {of_items}") for line in lines)
    assert "attributes of users: age (numeric), job (categorical, 4 values)" in lines
    assert metrics["test"]["model"]["metrics"]["hr@10"] > 0
    return folder


def test_training_starts_where_it_does_without_attributes(make: Callable[..., Any], data: Path) -> None:
    with_them = make()
    without = make_plain(with_them)
    dataset = load_dataset(with_them.data)
    one, other = build(with_them, dataset).model, build(without, load_dataset(without.data)).model
    histories, users = torch.tensor([[0, 1], [-1, 5]]), np.array([0, 1])
    scores = [
        model.scores(histories, *model.eval().encode_catalogue(), users_B=users if model.user_attributes else None)
        for model in (one, other)
    ]
    assert torch.equal(*scores)
    # Every other parameter and the stream of random numbers are what they would be.
    mine, plain = dict(one.named_parameters()), dict(other.named_parameters())
    new = mine.keys() - plain.keys()
    assert {name.split(".mlp")[0].split(".embed")[0] for name in new} == {"item_encoder.attributes", "user_attributes"}
    assert all(torch.equal(mine[name], parameter) for name, parameter in plain.items())
    build(with_them, dataset)
    after = torch.rand(3)
    build(without, load_dataset(without.data))
    assert torch.equal(after, torch.rand(3))


def make_plain(recipe: Any) -> Any:
    import dataclasses

    from peftrec.encoders import AttributesConfig

    data = dataclasses.replace(recipe.data, item_attributes=None, user_attributes=None, users=None)
    return dataclasses.replace(recipe, data=data, attributes=AttributesConfig())


def test_both_parts_train_and_come_back(run: Path) -> None:
    tensors = load_file(run / "head.safetensors")
    for part in ("item_encoder.attributes", "user_attributes"):
        assert tensors[f"{part}.mlp.3.weight"].any()
    loaded = load_run(run)
    assert loaded.model is not None
    vectors_ND, _ = loaded.model.encode_catalogue()
    torch.testing.assert_close(vectors_ND, loaded.vectors_ND)
    again, stored = evaluate(loaded), json.loads((run / "metrics.json").read_text())
    assert again["same_data"]
    assert again["model"]["metrics"] == pytest.approx(stored["test"]["model"]["metrics"])
    parts = {row["part"]: row for row in stored["parameters"]}
    user = sum(t.numel() for name, t in tensors.items() if name.startswith(("user_encoder.", "user_attributes.")))
    assert parts["user"]["stored"] == parts["user"]["trainable"] == user
    assert {"attributes.json", "item_attributes.safetensors"} <= json.loads((run / "peftrec.json").read_text())[
        "files"
    ].keys()


def test_attributes_of_users_stay_at_home(run: Path) -> None:
    content = json.loads((run / "attributes.json").read_text())
    assert content["users"]["job"] == {"vocabulary": ["bread", "cheese", "tea", "wine"]}
    assert content["users"]["age"].keys() == {"mean", "deviation", "learns_missing"}
    stored = {name: t.shape for path in run.glob("*.safetensors") for name, t in load_file(path).items()}
    assert not [name for name, shape in stored.items() if shape[:1] == (60,)]  # users


def test_statistics_are_of_what_trains(make: Callable[..., Any], run: Path) -> None:
    dataset = load_dataset(make().data)
    trained = [
        i for i in np.flatnonzero(dataset.item_counts()) if dataset.item_attributes.plain()["price"][i] is not None
    ]
    prices = np.log1p([dataset.item_attributes.plain()["price"][i] for i in trained])
    found = json.loads((run / "attributes.json").read_text())["items"]["price"]
    assert (found["mean"], found["deviation"]) == pytest.approx((prices.mean(), prices.std()))


def test_a_new_item_is_read_with_the_columns_of_the_run(run: Path, data: Path) -> None:
    recommender = Recommender.from_pretrained(run)
    rows = [row.split(",") for row in (data / "items.csv").read_text().splitlines()]
    names, values = rows[0], dict(zip(rows[0], rows[10], strict=True))
    assert values["item_id"] == "wine9"  # has no training event, and so no id vector
    known = {name: values[name] for name in names[2:]}
    text = f"{values['title']}. {values['category']}"
    recommender.add_items(["same"], [text], attributes=[known])
    recommender.add_items(["bare"], [text])
    recommender.add_items(["odd"], [text], attributes=[{**known, "category": "unheard of", "price": 1e9}])
    scores = {e.item_id: e.score for e in recommender.recommend(HISTORY, k=99)}
    assert scores["same"] == pytest.approx(scores["wine9"], abs=1e-5)
    assert len({round(scores[item], 4) for item in ("same", "bare", "odd")}) == 3
    with pytest.raises(InputError, match=r"item 'x': 'prize' is no attribute of this run\. Did you mean 'price'"):
        recommender.add_items(["x"], [text], attributes=[{"prize": 1}])
    with pytest.raises(InputError, match=r"item 'x', attribute 'price' holds 'dear'"):
        recommender.add_items(["x"], [text], attributes=[{"price": "dear"}])
    with pytest.raises(InputError, match="attributes of 2 items for 1 items"):
        recommender.add_items(["x"], [text], attributes=[{}, {}])
    assert len(recommender) == 43
    assert len(recommender.recommend(["wine0", "same"], k=3)) == 3


def test_attributes_of_a_user_reach_the_list(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recommender = Recommender.from_pretrained(run)
    plain = recommender.recommend(HISTORY, k=5)
    told = recommender.recommend(HISTORY, k=5, user_attributes={"age": 50, "job": "tea"})
    assert [e.score for e in told] != [e.score for e in plain]
    assert recommender.recommend(HISTORY, k=5) == plain  # nothing is remembered
    assert recommender.recommend(HISTORY, k=5, user_attributes={}) == plain
    popular = recommender.recommend([], k=5)
    assert recommender.recommend([], k=5, user_attributes={"age": None}) == popular
    assert recommender.recommend([], k=5, user_attributes={"job": "tea"}) != popular
    batch = recommender.recommend_batch([HISTORY, HISTORY], k=5, user_attributes=[{}, {"age": 50, "job": "tea"}])
    for found, wanted in zip(batch, (plain, told), strict=True):
        assert [e.item_id for e in found] == [e.item_id for e in wanted]
        assert [e.score for e in found] == pytest.approx([e.score for e in wanted], abs=1e-5)
    words = ["recommend", str(run), "--history", ",".join(HISTORY), "--k", "5", "--json", "--user-attributes"]
    assert main([*words, '{"age": 50, "job": "tea"}']) == 0
    assert [row["score"] for row in json.loads(capsys.readouterr().out)] == pytest.approx([e.score for e in told])
    for wrong in ("tea", "[1]"):
        with pytest.raises(SystemExit):
            main([*words, wrong])
        assert "is no JSON object such as" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"the user: 'agee' is no attribute of this run\. Did you mean 'age'"):
        recommender.recommend(HISTORY, user_attributes={"agee": 50})
    with pytest.raises(InputError, match="attributes of 1 users for 2 users"):
        recommender.recommend_batch([HISTORY, []], user_attributes=[{}])
    with pytest.raises(InputError, match="this run reads no users' texts"):
        recommender.recommend(HISTORY, attributes="50 years")


def test_an_audience_is_told_of_each_user(run: Path) -> None:
    recommender = Recommender.from_pretrained(run)
    histories = {"a": HISTORY, "b": HISTORY, "c": []}
    told = {"a": {"age": 20, "job": "wine"}, "b": {"age": 50, "job": "tea"}, "c": {"job": "tea"}}
    ranks = dict(recommender.audience("tea3", histories, user_attributes=told))
    for name, history in histories.items():
        found = recommender.recommend(history, k=1000, user_attributes=told[name])
        assert ranks[name] == next(entry.rank for entry in found if entry.item_id == "tea3")
    assert ranks != dict(recommender.audience("tea3", histories))
    partly = dict(recommender.audience("tea3", histories, user_attributes={"b": told["b"]}))
    assert partly["b"] == ranks["b"]


def test_texts_and_attributes_of_users_side_by_side(make: Callable[..., Any], tmp_path: Path) -> None:
    profile = "profile={method: null, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}"
    train(make("data.user_template='{job}'", profile, output_dir=tmp_path / "run"))
    recommender = Recommender.from_pretrained(tmp_path / "run")
    columns = {"age": 50, "job": "tea"}
    found = [
        tuple(e.score for e in recommender.recommend(HISTORY, k=3, attributes=text, user_attributes=told))
        for text in (None, "tea")
        for told in (None, columns)
    ]
    assert len(set(found)) == 4
    again = tuple(e.score for e in recommender.recommend(HISTORY, k=3, attributes="tea"))
    assert again == pytest.approx(found[2])  # what was told of columns before is forgotten


def test_ids_with_attributes_know_new_items(make: Callable[..., Any], tmp_path: Path) -> None:
    train(make("encoder.inputs=ids", "encoder.embedding_dim=16", output_dir=tmp_path / "run"))
    recommender = Recommender.from_pretrained(tmp_path / "run")
    recommender.add_items(["new", "newer"], ["a", "b"], attributes=[{"category": "tea"}, {"category": "wine"}])
    scores = {e.item_id: e.score for e in recommender.recommend(HISTORY, k=99)}
    assert scores["new"] != scores["newer"]
    for attributes in (None, [{}]):
        with pytest.raises(InputError, match="reads no texts, so that a new item needs attributes"):
            recommender.add_items(["x"], ["c"], attributes=attributes)


def test_what_is_not_read_is_refused(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(make_recipe("training.num_epochs=1", output_dir=tmp_path / "run"))
    assert not (tmp_path / "run" / "attributes.json").exists()
    recommender = Recommender.from_pretrained(tmp_path / "run")
    with pytest.raises(InputError, match=r"attributes of users were given, but .* has no data\.user_attributes"):
        recommender.recommend(HISTORY, user_attributes={"age": 3})
    with pytest.raises(InputError, match=r"attributes of items were given, but .* has no data\.item_attributes"):
        recommender.add_items(["x"], ["tea"], attributes=[{}])
    with pytest.raises(RecipeError, match=r"attributes: says how columns become vectors, but there are none"):
        make_recipe("attributes.hidden_dim=8")
    train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "popular"))
    with pytest.raises(InputError, match="attributes of users were given"):
        Recommender.from_pretrained(tmp_path / "popular").recommend(HISTORY, user_attributes={"age": 3})


def test_data_with_other_attributes_are_refused(make: Callable[..., Any], run: Path) -> None:
    recipe = make()
    dataset, plain = load_dataset(recipe.data), load_dataset(make_plain(recipe).data)
    for one, other in ((recipe, plain), (make_plain(recipe), dataset)):
        with pytest.raises(InputError, match=r"data\.item_attributes: the data set was read with other attributes"):
            build(one, other)
    with pytest.raises(InputError, match="the model reads attributes of users, but the data have none"):
        evaluate(run, dataset=plain)
    with pytest.raises(InputError, match="the attributes were read with other settings"):
        evaluate(run, overrides=["data.user_attributes={age: {kind: numeric}}"])


def sign(folder: Path) -> None:
    manifest = json.loads((folder / "peftrec.json").read_text())
    (folder / "peftrec.json").write_text(json.dumps(sealed({**manifest, "files": file_table(folder)})))


def test_a_folder_that_does_not_fit_is_not_loaded(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    path = copy / "item_attributes.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "codes.0": tensors["codes.0"] + 9}, path)
    sign(copy)
    with pytest.raises(
        InputError, match=r"item_attributes\.safetensors: does not hold the columns of attributes\.json"
    ):
        load_run(copy)
    for wrong in (
        {"codes.0": tensors["codes.0"] - 9},
        {"codes.0": tensors["codes.0"].int()},
        {"numbers": tensors["numbers"].double()},
        {"known": tensors["known"][:, None].contiguous()},
        {"known": tensors["known"][0].clone()},
    ):
        save_file({**tensors, **wrong}, path)
        sign(copy)
        with pytest.raises(InputError, match=r"item_attributes\.safetensors: does not hold the columns"):
            load_run(copy)
    save_file({**tensors, "numbers": tensors["numbers"] * torch.nan}, path)
    sign(copy)
    with pytest.raises(InputError, match=r"item_attributes\.safetensors: 'numbers' holds numbers that are NaN"):
        load_run(copy)
    save_file({name: tensor for name, tensor in tensors.items() if name != "codes.1"}, path)
    sign(copy)
    with pytest.raises(InputError, match=r"item_attributes\.safetensors: cannot be read"):
        load_run(copy)
    save_file(tensors, path)
    content = json.loads((copy / "attributes.json").read_text())
    content["users"]["age"].pop("mean")
    (copy / "attributes.json").write_text(json.dumps(content))
    sign(copy)
    with pytest.raises(InputError, match=r"attributes\.json: does not hold what the recipe's attributes need"):
        load_run(copy)
    content["users"]["age"]["mean"] = 30.0
    content["items"]["category"]["vocabulary"].append("zzz")
    (copy / "attributes.json").write_text(json.dumps(content))
    sign(copy)
    with pytest.raises(InputError, match="the head does not fit this backbone and recipe"):
        load_run(copy)
    (copy / "attributes.json").unlink()
    with pytest.raises(InputError, match=r"attributes\.json: is missing from the run folder"):
        load_run(copy)


def test_an_edited_user_part_is_found_by_the_probes(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    tensors = load_file(copy / "head.safetensors")
    tensors["user_attributes.mlp.3.weight"] += 0.1
    save_file(tensors, copy / "head.safetensors")
    sign(copy)
    with pytest.raises(InputError, match="does not give the user attributes that were stored"):
        load_run(copy)
