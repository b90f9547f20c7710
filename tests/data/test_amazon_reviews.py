"""Amazon's reviews in the three layouts in which they were published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import SOURCES, CleaningConfig, Dataset, load_dataset
from peftrec.data.sources.amazon_reviews import AmazonReviewsConfig

# One user, three items, in an order that times undo; "c" has no review.
EVENTS = [("b", 4.0, 1_400_000_100), ("a", 5.0, 1_400_000_000), ("d", 2.0, 1_400_000_200)]


def old_review(user: str, item: str, rating: float, time: int) -> dict[str, Any]:
    return {
        "reviewerID": user, "asin": item, "reviewerName": "N. N.", "helpful": [0, 1], "reviewText": "fine\n",
        "overall": rating, "summary": "ok", "unixReviewTime": time, "reviewTime": "05 13, 2014", "verified": True,
        "vote": "2",
    }  # fmt: skip


def new_review(user: str, item: str, rating: float, time: int) -> dict[str, Any]:
    return {
        "rating": rating, "title": "ok", "text": "fine<br />", "images": [], "asin": f"{item}-red",
        "parent_asin": item, "user_id": user, "timestamp": time * 1000, "helpful_vote": 0, "verified_purchase": True,
    }  # fmt: skip


METADATA_2014 = (
    "{'asin': 'a', 'title': \"Men's soap\", 'price': 5.5, 'imUrl': 'http:\\/\\/x', 'related': {'also_bought': ['b']}, "
    "'salesRank': {'Beauty': 1}, 'brand': 'Ö', 'categories': [['Beauty', 'Bath'], ['Beauty', 'Men']], "
    "'description': 'It\\'s &amp; clean'}\n"
    "{'asin': 'b', 'title': 'Comb', 'categories': [['Beauty']]}\n"
    "{'asin': 'c', 'title': 'Never reviewed'}\n"
    "{'asin': 'd', 'title': 'Cream 🧴'}\n"
)
METADATA_2018 = [
    {
        "asin": "a", "title": "Men's soap", "price": "$5.50", "category": ["Beauty", "Bath", "Men"], "brand": "Ö",
        "description": ["It's &amp; clean", "", "Twice."], "feature": ["Big", "Blue"], "main_cat": "All Beauty",
        "tech1": "", "similar_item": "", "also_buy": ["b"], "rank": [">#1 in Beauty"],
    },
    {"asin": "b", "title": "Comb", "price": ".a-box-inner{background-color:#fff}", "category": ["Beauty"]},
    {"asin": "c", "title": "Never reviewed", "price": "", "category": [], "description": []},
    {"asin": "d", "title": "Cream 🧴", "price": "$1,005.99 - $2,000.00"},
]  # fmt: skip
METADATA_2023 = [
    {
        "main_category": "All Beauty", "title": "Men's soap", "average_rating": 4.8, "rating_number": 10,
        "features": ["Big", "Blue"], "description": ["It's &amp; clean", "Twice."], "price": 5.5, "images": [{"hi": 1}],
        "videos": [], "store": "Ö", "categories": ["Beauty", "Bath", "Men"], "details": {"Size": "1"},
        "parent_asin": "a", "bought_together": None,
    },
    {"main_category": "All Beauty", "title": "Comb", "price": "from 3.99", "categories": [], "parent_asin": "b"},
    {"main_category": "All Beauty", "title": "Never reviewed", "price": None, "parent_asin": "c"},
    {"main_category": None, "title": "Cream 🧴", "price": "—", "features": [], "parent_asin": "d"},
]  # fmt: skip


def write(path: Path, content: str) -> str:
    encoded = content.encode()
    path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)
    return path.name


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def config(folder: Path, layout: Any, suffix: str = "", **values: Any) -> AmazonReviewsConfig:
    make = new_review if layout == 2023 else old_review
    texts = {2014: METADATA_2014, 2018: as_lines(METADATA_2018), 2023: as_lines(METADATA_2023)}
    name = "jsonl" if layout == 2023 else "json"
    return AmazonReviewsConfig(
        layout=layout,
        root=str(folder),
        reviews=write(folder / f"reviews.{name}{suffix}", as_lines([make("U", *event) for event in EVENTS])),
        metadata=write(folder / f"meta.{name}{suffix}", texts[layout]),
        **values,
    )


def texts(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.catalogue.ids, dataset.catalogue.texts, strict=True))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("layout", [2014, 2018, 2023])
def test_every_layout_gives_the_same_data(tmp_path: Path, layout: int, suffix: str) -> None:
    dataset = load_dataset(config(tmp_path, layout, suffix, template="{title}. {brand}. {category}"))
    second = "Comb. All Beauty" if layout == 2023 else "Comb. Beauty"
    assert texts(dataset) == {"a": "Men's soap. Ö. Beauty, Bath, Men", "b": second, "d": "Cream 🧴"}
    assert dataset.sequences.user_ids == ("U",)
    assert [dataset.catalogue.ids[item] for item in dataset.sequences.items] == ["a", "b", "d"]
    assert dataset.sequences.times is not None
    assert dataset.sequences.times.tolist() == [1_400_000_000_000, 1_400_000_100_000, 1_400_000_200_000]
    assert dataset.report.removed("items without review", "items") == 1


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (2014, {"a": "It's & clean | 5.5", "b": "Comb", "c": "Never reviewed", "d": "Cream 🧴"}),
        (2018, {"a": "It's & clean Twice. | 5.50", "b": "Comb", "c": "Never reviewed", "d": "1005.99"}),
        (2023, {"a": "It's & clean Twice. | 5.5", "b": "3.99", "c": "Never reviewed", "d": "Cream 🧴"}),
    ],
)
def test_columns_for_templates(tmp_path: Path, layout: int, expected: dict[str, str]) -> None:
    # A price stands alone where nothing else is known; the title where there is none either.
    dataset = load_dataset(config(tmp_path, layout, template="{description} | {price} | {title}", only_reviewed=False))
    found = {item: text.replace(f" | {title}", "") for item, text, title in
             zip(dataset.catalogue.ids, dataset.catalogue.texts, dataset.catalogue.titles, strict=True)}  # fmt: skip
    assert found == expected
    assert not any(row.step == "items without review" for row in dataset.report.rows)


def test_features_came_in_2018(tmp_path: Path) -> None:
    for layout in (2018, 2023):
        assert texts(load_dataset(config(tmp_path, layout, template="{title}: {features}")))["a"] == (
            "Men's soap: Big Blue"
        )
    with pytest.raises(RecipeError, match=r"names the column 'features', which .*meta\.json lacks"):
        load_dataset(config(tmp_path, 2014, template="{title}: {features}"))


def test_ratings_filter_and_are_kinds(tmp_path: Path) -> None:
    words = {"5": "loved", "4": "liked", "2": "left"}
    dataset = load_dataset(config(tmp_path, 2018, event_words=words))
    assert dataset.event_words == ("loved", "liked", "left")
    assert dataset.sequences.events is not None
    assert dataset.sequences.events.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="leaves no test case"):
        load_dataset(config(tmp_path, 2018, cleaning=CleaningConfig(min_rating=4)))


def test_ids_that_look_like_numbers_keep_their_zeros(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2023)
    write(tmp_path / recipe.metadata, as_lines([{"parent_asin": f"00{n}", "title": f"t{n}"} for n in range(3)]))
    write(tmp_path / recipe.reviews, as_lines([new_review("U", f"00{n}", 5, 1_400_000_000 + n) for n in range(3)]))
    assert load_dataset(recipe).catalogue.ids == ("000", "001", "002")


def test_titles_that_are_all_the_same_and_a_million_characters(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2014, template="{title} {description}")
    rows = [{"asin": item, "title": "Same", "description": "x" * 1_000_000} for item in "abd"]
    write(tmp_path / recipe.metadata, "".join(f"{row!r}\n" for row in rows))
    dataset = load_dataset(recipe)
    assert dataset.catalogue.titles == ("Same",) * 3
    assert [len(text) for text in dataset.catalogue.texts] == [1_000_005] * 3


def test_mixed_types_in_one_column(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2018, template="{title}: {description}")
    rows = [
        {"asin": "a", "title": "t", "description": "[New] plain text"},
        {"asin": "b", "title": 7, "description": ["one", 2, None, ["deep"]]},
        {"asin": "d", "title": ["in", "parts"], "description": {"no": "text"}},
    ]
    write(tmp_path / recipe.metadata, as_lines(rows))
    assert texts(load_dataset(recipe)) == {"a": "t: [New] plain text", "b": "7: one 2 deep", "d": "in parts"}


@pytest.mark.parametrize("line", ["__import__('os').system('touch ran')", "{'asin': open('x')}", "{'asin': 'a'", "[1]"])
def test_python_is_never_run_and_a_bad_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = config(tmp_path, 2014)
    write(tmp_path / recipe.metadata, f"{METADATA_2014}\n{line}\n")
    with pytest.raises(InputError, match=r"meta\.json: line 6 is neither a Python dictionary nor a JSON object: ") as e:
        load_dataset(recipe)
    assert line[:10] in str(e.value)
    assert not (tmp_path / "ran").exists()


def test_deeply_nested_literals_are_an_error(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2014)
    write(tmp_path / recipe.metadata, "{'asin': " + "[" * 5000 + "]" * 5000 + "}\n")
    with pytest.raises(InputError, match=r"line 1 is neither a Python dictionary"):
        load_dataset(recipe)


def test_copies_of_2014_that_are_json(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2014)
    write(tmp_path / recipe.metadata, as_lines([{"asin": item, "title": None, "price": True} for item in "abd"]))
    with pytest.raises(InputError, match="no item has a text"):
        load_dataset(recipe)
    write(tmp_path / recipe.metadata, as_lines([{"asin": item, "title": f"title {item}"} for item in "abd"]))
    assert load_dataset(recipe).catalogue.titles == ("title a", "title b", "title d")


def test_half_written_gzip(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2014, ".gz")
    for name in (recipe.reviews, recipe.metadata):
        path = tmp_path / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        with pytest.raises(InputError, match=rf"{name} is not a whole gzip file: .*, in line \d+; fetch it again"):
            load_dataset(recipe)
        path.write_bytes(whole)
    assert len(load_dataset(recipe).catalogue) == 3


def test_the_wrong_layout_or_file(tmp_path: Path) -> None:
    new = config(tmp_path, 2023)
    wrong = AmazonReviewsConfig(root=str(tmp_path), layout=2018, reviews=new.reviews, metadata=new.metadata)
    message = r"no line has the key 'reviewerID', which data\.layout: 2018 calls for; the first line has: rating, title"
    with pytest.raises(InputError, match=message):
        load_dataset(wrong)
    swapped = AmazonReviewsConfig(root=str(tmp_path), layout=2023, reviews=new.metadata, metadata=new.reviews)
    with pytest.raises(InputError, match=r"meta\.jsonl: no line has the key 'user_id'"):
        load_dataset(swapped)
    write(tmp_path / new.metadata, as_lines([{"asin": "a"}]))
    with pytest.raises(InputError, match=r"meta\.jsonl: no line has the key 'parent_asin'.* has: asin"):
        load_dataset(new)
    write(tmp_path / new.metadata, as_lines([{"parent_asin": "zzz", "title": "t"}]))
    with pytest.raises(InputError, match=r"none of its 1 items has a review in .*; ids here: 'zzz'; ids there: 'b'"):
        load_dataset(new)
    write(tmp_path / new.metadata, "\n\n")
    with pytest.raises(InputError, match=r"meta\.jsonl holds no rows"):
        load_dataset(new)
    (tmp_path / new.metadata).unlink()
    with pytest.raises(InputError, match=r"no such file: .*meta\.jsonl \(data\.metadata: meta\.jsonl, data\.root: "):
        load_dataset(new)


def test_a_broken_line_of_reviews(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2018)
    path = tmp_path / recipe.reviews
    path.write_text(path.read_text() + '{"reviewerID": "U", "asin":\n')
    with pytest.raises(InputError, match=r"reviews\.json: line 4 is no JSON object"):
        load_dataset(recipe)


def test_reviews_without_user_or_time_are_counted(tmp_path: Path) -> None:
    recipe = config(tmp_path, 2018)
    path = tmp_path / recipe.reviews
    extra = as_lines([{"asin": "a", "unixReviewTime": 1}, {"reviewerID": "V", "asin": "a"}, old_review("U", "x", 1, 1)])
    path.write_text(path.read_text() + extra)
    report = load_dataset(recipe).report
    assert report.removed("null user or item ids") == 1
    assert report.removed("null times") == 1
    assert report.removed("unknown items") == 1


def test_sections() -> None:
    values = {"kind": "amazon_reviews", "layout": 2023, "reviews": "r", "metadata": "m"}
    assert parse_section(AmazonReviewsConfig, values, registry=SOURCES).layout == 2023
    with pytest.raises(RecipeError, match=r"layout: 2019 \(int\) is not allowed.* One of: 2014, 2018, 2023"):
        parse_section(AmazonReviewsConfig, {**values, "layout": 2019}, registry=SOURCES)
    with pytest.raises(RecipeError, match="user_template: the reviews say nothing of their users"):
        parse_section(AmazonReviewsConfig, {**values, "user_template": "{age}"}, registry=SOURCES)


def test_the_recipe_reads_its_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    from peftrec.recipe import load_recipe

    repository = Path(__file__).parent.parent.parent
    monkeypatch.chdir(repository)
    dataset = load_dataset(load_recipe(Path("recipes/amazon_reviews/content_knn.yaml")).data)
    assert (len(dataset.catalogue), len(dataset.sequences), len(dataset.sequences.items)) == (39, 80, 451)
    assert dataset.catalogue.texts[0].startswith("Rose Soap, small. Nordlicht. Beauty & Personal Care, Soap. ")
