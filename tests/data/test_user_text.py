"""The table of users: one text a user, and every way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import CleaningConfig, Columns, Dataset, TrainingWindows, load_dataset
from peftrec.data.sources.movielens import MovieLensConfig
from peftrec.data.sources.tables import TablesConfig

if TYPE_CHECKING:
    from .conftest import Workspace

TEMPLATE = "{age} years, {gender}, {occupation}"
USERS = """user_id,age,gender,occupation
u9,61,F,judge
u2,35,,nurse
u1,24,M,"R&amp;D  engineer"
"""


def load_users(workspace: Workspace, content: str = USERS, **values: Any) -> Dataset:
    workspace.write("users.csv", content)
    return workspace.load(**{"users": "users.csv", "user_template": TEMPLATE, **values})


def test_one_text_a_user_in_the_order_of_the_sequences(workspace: Workspace) -> None:
    dataset = load_users(workspace)
    assert dataset.sequences.user_ids == ("u1", "u2", "u3")
    assert dataset.user_texts == ("24 years, M, R&D engineer", "35 years, nurse", "")
    assert "1 users without attributes" in str(dataset.report)
    assert "u3" not in str(dataset.report)  # the report is published
    assert workspace.load().user_texts is None
    assert "attributes" not in str(workspace.load().report)


def test_a_row_of_empty_values_counts_as_without_attributes(workspace: Workspace) -> None:
    dataset = load_users(workspace, "user_id,age,gender,occupation\nu1,24,M,x\nu3,, ,\nu2,35,F,y\n")
    assert dataset.user_texts == ("24 years, M, x", "35 years, F, y", "")
    assert "1 users without attributes" in str(dataset.report)


def test_users_that_cleaning_drops_have_no_text(workspace: Workspace) -> None:
    dataset = load_users(workspace, cleaning=CleaningConfig(min_user_events=2))
    assert dataset.sequences.user_ids == ("u1", "u2")
    assert dataset.user_texts == ("24 years, M, R&D engineer", "35 years, nurse")
    assert "0 users without attributes" in str(dataset.report)


def test_html_stays_where_it_is_to_stay(workspace: Workspace) -> None:
    dataset = load_users(workspace, cleaning=CleaningConfig(strip_html=False))
    assert dataset.user_texts is not None
    assert dataset.user_texts[0] == "24 years, M, R&amp;D engineer"


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "tsv"])
def test_formats_agree(workspace: Workspace, suffix: str) -> None:
    expected = load_users(workspace).user_texts
    frame = pl.read_csv(workspace.root / "users.csv")
    assert frame["age"].dtype == pl.Int64
    write: dict[str, Callable[[Path], object]] = {
        "parquet": frame.write_parquet,
        "jsonl": frame.write_ndjson,
        "tsv": lambda path: frame.write_csv(path, separator="\t"),
    }
    write[suffix](workspace.root / f"users.{suffix}")
    dataset = workspace.load(users=f"users.{suffix}", user_template=TEMPLATE)
    assert dataset.user_texts == expected


def test_ids_are_compared_as_those_of_the_interactions(workspace: Workspace) -> None:
    workspace.write("interactions.csv", "who,item_id,timestamp\n7,b,1\n7,c,2\n7,d,3\n08,b,1\n")
    pl.DataFrame({"who": [7.0, None, 8.0], "age": [30.0, 1.0, 40.0]}).write_parquet(workspace.root / "users.parquet")
    dataset = workspace.load(users="users.parquet", user_template="{age}", columns=Columns(user="who"))
    assert dataset.user_texts == ("30", "")
    assert dataset.report.removed("null user ids", "users") == 1
    workspace.write("users.csv", 'who,age\n" 7 ",30\n08,40\n')
    dataset = workspace.load(users="users.csv", user_template="{age}", columns=Columns(user="who"))
    assert dataset.user_texts == ("30", "40")


def test_equal_rows_of_a_user_count_once(workspace: Workspace) -> None:
    # What the template does not read may differ.
    dataset = load_users(workspace, "user_id,age,gender,occupation,seen\nu1,24,M,x,1\nu2,35,F,y,2\nu1,24,M,x,3\n")
    assert dataset.user_texts == ("24 years, M, x", "35 years, F, y", "")
    assert dataset.report.removed("duplicate user ids", "users") == 1


@pytest.mark.parametrize(
    ("content", "values", "error", "message"),
    [
        (
            "user_id,age,gender,occupation\nu1,24,M,x\nu2,1,F,y\nu1,25,M,x\nu2,2,F,y\n",
            {},
            InputError,
            r"users\.csv: data rows 1 and 3 say different things of the user 'u1': '24 years, M, x' and "
            r"'25 years, M, x', and 1 more users have such rows; keep one row a user",
        ),
        (
            "user_id,age,gender,occupation\n1,24,M,x\n2,25,M,x\n",
            {},
            InputError,
            r"users\.csv: has none of the 3 users of .*interactions\.csv; ids here: '1', '2'; ids there: 'u1', 'u2'",
        ),
        (
            "user_id,age,gender,occupation\nu1,,,\nu2,,,\nu9,24,M,x\n",
            {},
            InputError,
            r"no user of .*interactions\.csv has a text; data\.user_template '.*' finds nothing in age, gender, occ",
        ),
        (
            "user_id,age,gender,occupation\n,24,M,x\n ,25,M,x\n",
            {},
            InputError,
            r"users\.csv, column 'user_id': holds no id in any of its 2 rows",
        ),
        (
            "user_id,age,sex,occupation\nu1,24,M,x\n",
            {"user_template": "{age}, {occupaton}"},
            RecipeError,
            r"data\.user_template .* names the column 'occupaton', which .*users\.csv lacks\. Did you mean 'occup",
        ),
        (
            "uid,age,gender,occupation\nu1,24,M,x\n",
            {},
            InputError,
            r"users\.csv: no column 'user_id' \(named by data\.columns\.user\)\..* Columns there: uid, age",
        ),
        ("user_id,age,gender,occupation\n", {}, InputError, r"users\.csv holds no rows"),
        (
            USERS,
            {"users": "people.csv"},
            InputError,
            r"no such file: .*people\.csv \(data\.users: people\.csv, data\.r",
        ),
    ],
)
def test_bad_tables_are_one_clear_message(
    workspace: Workspace, content: str, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        load_users(workspace, content, **values)
    assert "\n" not in str(caught.value)


def test_table_and_template_come_together() -> None:
    files = {"interactions": "i.csv", "items": "t.csv"}
    with pytest.raises(RecipeError, match=r"^data\.user_template: '\{age\}' has no table to read; .* data\.users$"):
        parse_section(TablesConfig, {**files, "user_template": "{age}"}, path="data")
    with pytest.raises(
        RecipeError, match=r"^data\.users: 'u\.csv' is read only where something asks for it; .*data\.user_templat"
    ):
        parse_section(TablesConfig, {**files, "users": "u.csv"}, path="data")
    with pytest.raises(RecipeError, match=r"^data\.user_template: template 'nobody' names no column"):
        parse_section(TablesConfig, {**files, "users": "u.csv", "user_template": "nobody"}, path="data")


def test_a_text_is_found_by_index_in_training_and_evaluation(workspace: Workspace) -> None:
    rows = [f"u{user},{item},{time}" for user in range(30) for time, item in enumerate("bcdeb"[: 3 + user % 3])]
    workspace.write("interactions.csv", "\n".join(["user_id,item_id,timestamp", *rows]))
    people = "\n".join(["user_id,age", *(f"u{user},{user + 20}" for user in reversed(range(30)))])
    dataset = load_users(workspace, people, user_template="{age} years")
    texts = dataset.user_texts
    assert texts is not None
    by_id = {f"u{user}": f"{user + 20} years" for user in range(30)}
    assert dict(zip(dataset.sequences.user_ids, texts, strict=True)) == by_id
    users: list[int] = []
    for batch in TrainingWindows(dataset, 5).epoch(0, 0, 8):
        for row, user in enumerate(batch.users):
            users.append(int(user))
            seen = batch.seen_items[batch.seen_offsets[row] : batch.seen_offsets[row + 1]].tolist()
            own = int(texts[user].split()[0]) - 20
            assert seen == dataset.catalogue.index(list("bcdeb"[: 1 + own % 3])).tolist()
    assert sorted(users) == [user for user in range(30) if user % 3]
    for cases in (dataset.split.valid, dataset.split.test):
        assert [texts[user] for user in cases.users] == [
            by_id[dataset.sequences.user_ids[user]] for user in cases.users
        ]


def test_other_texts_are_other_data(workspace: Workspace) -> None:
    plain, first = workspace.load().content_hash(), load_users(workspace).content_hash()
    assert first == load_users(workspace).content_hash()
    assert len({plain, first, load_users(workspace, USERS.replace("24", "25")).content_hash()}) == 3
    # Who is not among the users is not among the data.
    assert first == load_users(workspace, USERS.replace("judge", "lawyer")).content_hash()


def write_movielens(folder: Path, form: str) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    events = [("7", "1", "3", "10"), ("7", "2", "4", "20"), ("7", "3", "5", "30"), ("8", "1", "5", "40")]

    def rows(separator: str) -> str:
        return "".join(separator.join(event) + "\n" for event in events)

    if form == "own":
        (folder / "interactions.csv").write_text("user_id,item_id,rating,timestamp\n" + rows(","))
        (folder / "items.csv").write_text("item_id,title\n1,A\n2,B\n3,C\n")
        (folder / "users.csv").write_text("user_id,age,gender,occupation,zip_code\n8,31,F,other,1\n7,24,M,writer,2\n")
    elif form == "100k":
        (folder / "u.data").write_text(rows("\t"))
        (folder / "u.item").write_text("".join(f"{item}|T{'|' * 22}\n" for item in "123"))
        (folder / "u.user").write_text("8|31|F|other|1\n7|24|M|writer|2\n")
    elif form == "1m":
        (folder / "ratings.dat").write_text(rows("::"))
        (folder / "movies.dat").write_text("1::A::War\n2::B::War\n3::C::War\n")
        (folder / "users.dat").write_text("8::F::1::0::1\n7::M::18::20::2\n")
    else:
        (folder / "x.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows("\t"))
        (folder / "x.item").write_text("item_id:token\tmovie_title:token_seq\n1\tA\n2\tB\n3\tC\n")
        (folder / "x.user").write_text(
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n8\t31\tF\tother\t1\n"
            "7\t24\tM\twriter\t2\n"
        )


def movielens(folder: Path, **values: Any) -> Dataset:
    config = {"root": str(folder.parent), "folder": folder.name, "user_template": TEMPLATE, **values}
    return load_dataset(MovieLensConfig(**config))


@pytest.mark.parametrize("form", ["own", "100k", "recbole"])
def test_movielens_users(tmp_path: Path, form: str) -> None:
    write_movielens(tmp_path / "ml", form)
    assert movielens(tmp_path / "ml").user_texts == ("24 years, M, writer", "31 years, F, other")


def test_movielens_1m_users_are_spelled_out(tmp_path: Path) -> None:
    write_movielens(tmp_path / "ml", "1m")
    assert movielens(tmp_path / "ml").user_texts == ("18-24 years, M, writer", "under 18 years, F, other")


@pytest.mark.parametrize(("form", "file"), [("own", "users.csv"), ("100k", "u.user"), ("1m", "users.dat")])
def test_movielens_without_users(tmp_path: Path, form: str, file: str) -> None:
    write_movielens(tmp_path / "ml", form)
    (tmp_path / "ml" / file).unlink()
    with pytest.raises(InputError, match=rf"ml holds no {file}, which data\.user_template reads beside .*; it holds"):
        movielens(tmp_path / "ml")
    assert movielens(tmp_path / "ml", user_template=None).user_texts is None


def test_what_asks_for_users_is_named(tmp_path: Path) -> None:
    write_movielens(tmp_path / "ml", "own")
    (tmp_path / "ml" / "users.csv").unlink()
    with pytest.raises(InputError, match=r"users\.csv, which data\.user_groups reads"):
        movielens(tmp_path / "ml", user_template=None, user_groups=("age",))


def test_movielens_20m_knows_nothing_of_users(tmp_path: Path) -> None:
    folder = tmp_path / "ml"
    folder.mkdir()
    (folder / "movies.csv").write_text("movieId,title,genres\n1,A,War\n2,B,War\n3,C,War\n")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,4.0,1\n7,2,3.5,2\n7,3,5.0,3\n")
    with pytest.raises(InputError, match=r"ratings\.csv comes without attributes of users; unset data\.user_template"):
        movielens(folder)


def check_real_users(dataset: Dataset) -> None:
    texts = dataset.user_texts
    assert texts is not None
    assert len(texts) == 943
    assert all(texts)
    assert "0 users without attributes" in str(dataset.report)
    by_id = dict(zip(dataset.sequences.user_ids, texts, strict=True))
    assert by_id["1"] == "24 years, M, technician"
    assert by_id["943"] == "22 years, M, student"
    ages = np.array([int(text.split()[0]) for text in texts])
    assert (int(ages.min()), int(ages.max())) == (7, 73)


def test_real_users(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ml-100k"
    if not (folder / "users.csv").is_file():
        pytest.skip(f"no users.csv in {folder}; 'peftrec data get ml-100k' writes one")
    check_real_users(movielens(folder))
    tables = {name: f"ml-100k/{name}.csv" for name in ("interactions", "items", "users")}
    check_real_users(load_dataset(TablesConfig(root=str(shared_data), user_template=TEMPLATE, **tables)))
    # The same rows as GroupLens writes them.
    lines = (folder / "users.csv").read_text(encoding="utf-8").splitlines()[1:]
    write_movielens(tmp_path / "ml", "100k")
    (tmp_path / "ml" / "u.user").write_text("".join(line.replace(",", "|") + "\n" for line in lines))
    assert movielens(tmp_path / "ml").user_texts == ("57 years, M, administrator", "36 years, M, administrator")
