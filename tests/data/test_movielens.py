from __future__ import annotations

from pathlib import Path

import pytest

from peftrec.config import InputError
from peftrec.data import Dataset, load_dataset
from peftrec.data.sources.movielens import MovieLensConfig

TEMPLATE = "{title} ({year}). {category}"
EXPECTED = (
    "Toy Story (1995). Animation Children's Comedy",
    "Cité des enfants perdus, La (1995). Adventure Sci-Fi",
    "Land Before Time III: The Time (1995). Animation",
)
FLAGS = {1: "0001110000000000000", 2: "0010000000000001000", 3: "0001000000000000000"}


def write_100k(folder: Path) -> None:
    titles = ("Toy Story (1995)", "Cité des enfants perdus, La (1995)", "Land Before Time III: The Time (1995) (V)")
    rows = [f"{item}|{title}|01-Jan-1995||http://x|{'|'.join(FLAGS[item])}" for item, title in enumerate(titles, 1)]
    (folder / "u.item").write_bytes("\n".join(rows).encode("latin-1"))
    (folder / "u.data").write_text("7\t2\t4\t881250950\n7\t1\t3\t881250949\n7\t3\t5\t881250951\n")


def write_dat(folder: Path) -> None:
    movies = (
        "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Cité des enfants perdus, La (1995)::Adventure|Sci-Fi\n"
        "3::Land Before Time III: The Time (1995)::Animation\n"
    )
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))
    (folder / "ratings.dat").write_text("7::2::4::881250950\n7::1::3.5::881250949\n7::3::5::881250951\n")


def write_csv(folder: Path) -> None:
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n1,Toy Story (1995),Animation|Children's|Comedy\n"
        '2,"Cité des enfants perdus, La (1995)",Adventure|Sci-Fi\n3,Land Before Time III: The Time (1995–),Animation\n'
    )
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n7,2,4.0,881250950\n7,1,3.5,881250949\n7,3,5.0,881250951\n"
    )


def write_atomic(folder: Path) -> None:
    (folder / "x.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tCité des enfants perdus, La\t1995\tAdventure Sci-Fi\n"
        "3\tLand Before Time III: The Time\t1995\tAnimation\n"
    )
    (folder / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "7\t2\t4\t881250950\n7\t1\t3\t881250949\n7\t3\t5\t881250951\n"
    )


def write_own(folder: Path) -> None:
    (folder / "items.csv").write_text(
        "item_id,title,year,category\n1,Toy Story,1995,Animation Children's Comedy\n"
        '2,"Cité des enfants perdus, La",1995,Adventure Sci-Fi\n3,Land Before Time III: The Time,1995,Animation\n'
    )
    (folder / "interactions.csv").write_text(
        "user_id,item_id,rating,timestamp\n7,2,4,881250950\n7,1,3,881250949\n7,3,5,881250951\n"
    )


def load(folder: Path) -> Dataset:
    return load_dataset(MovieLensConfig(root=str(folder.parent), folder=folder.name, template=TEMPLATE))


@pytest.mark.parametrize("write", [write_100k, write_dat, write_csv, write_atomic, write_own])
def test_every_form_gives_the_same_data(tmp_path: Path, write: object) -> None:
    assert callable(write)
    write(tmp_path)
    dataset = load(tmp_path)
    assert dataset.catalogue.ids == ("1", "2", "3")
    assert dataset.catalogue.texts == EXPECTED
    assert dataset.sequences.user_ids == ("7",)
    assert dataset.sequences.items.tolist() == [0, 1, 2]
    assert dataset.sequences.times is not None
    assert dataset.sequences.times[0] == 881_250_949_000


def test_titles_without_year_or_genre(tmp_path: Path) -> None:
    write_csv(tmp_path)
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n1,unknown,(no genres listed)\n2,2001 (x),Drama\n3,Show (1994-1998),Drama|War\n"
    )
    assert load(tmp_path).catalogue.texts == ("unknown", "2001 (x). Drama", "Show (1994). Drama War")


def test_10m_files_are_utf8(tmp_path: Path) -> None:
    write_dat(tmp_path)
    path = tmp_path / "movies.dat"
    path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-8"))
    assert load(tmp_path).catalogue.texts == EXPECTED


def test_1m_has_users_in_latin1(tmp_path: Path) -> None:
    write_dat(tmp_path)
    (tmp_path / "users.dat").write_bytes("7::F::56::16::70072\n8::M::1::20::0610é\n".encode("latin-1"))
    template = "{gender}, {age}, {occupation}, {zip_code}"
    config = MovieLensConfig(root=str(tmp_path.parent), folder=tmp_path.name, user_template=template)
    assert load_dataset(config).user_texts == ("F, 56+, self-employed, 70072",)


def test_10m_has_half_stars_and_no_users(tmp_path: Path) -> None:
    write_dat(tmp_path)
    (tmp_path / "tags.dat").write_text("7::2::odd::1188263867\n")
    (tmp_path / "movies.dat").write_text('1::"Toy" & Story: 2::Drama\n2::b (1995)::War\n3::c (1996)::War\n')
    config = MovieLensConfig(
        root=str(tmp_path.parent), folder=tmp_path.name, template=TEMPLATE, event_words={"4": "a", "3.5": "b", "5": "c"}
    )
    dataset = load_dataset(config)
    assert dataset.catalogue.texts == ('"Toy" & Story: 2. Drama', "b (1995). War", "c (1996). War")
    assert dataset.sequences.events is not None
    assert dataset.sequences.events.tolist() == [1, 0, 2]
    with pytest.raises(InputError, match=r"holds no users\.dat, which data\.user_template reads"):
        load_dataset(MovieLensConfig(root=str(tmp_path.parent), folder=tmp_path.name, user_template="{age}"))


def test_20m_and_25m_have_files_that_nobody_reads(tmp_path: Path) -> None:
    write_csv(tmp_path)
    (tmp_path / "links.csv").write_text("movieId,imdbId,tmdbId\n1,0114709,862\n")
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n7,1,broken\n")
    (tmp_path / "genome-scores.csv").write_text("movieId,tagId,relevance\n1,1,0.02875\n")
    assert load(tmp_path).catalogue.texts[0] == EXPECTED[0]
    with pytest.raises(InputError, match=r"ratings\.csv comes without attributes of users"):
        load_dataset(MovieLensConfig(root=str(tmp_path.parent), folder=tmp_path.name, user_template="{age}"))


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder: .*peftrec data get ml-100k"):
        load(tmp_path / "ml-100k")
    (tmp_path / "u.data").write_text("1\t2\t3\t4\n")
    with pytest.raises(InputError, match=r"is no MovieLens folder: it holds u\.data; known are interactions\.csv with"):
        load(tmp_path)
    (tmp_path / "u.item").write_text("1|Toy\n")
    with pytest.raises(InputError, match=r"u\.item: expected 24 columns .*, found 2"):
        load(tmp_path)
    (tmp_path / "u.item").write_text("")
    with pytest.raises(InputError, match=r"u\.item is empty"):
        load(tmp_path)


def test_bad_atomic_files(tmp_path: Path) -> None:
    write_atomic(tmp_path)
    (tmp_path / "x.item").write_text("item_id\ttitle\n1\tToy\n")
    with pytest.raises(InputError, match=r"a RecBole header looks like 'user_id:token', got 'item_id'"):
        load(tmp_path)
    (tmp_path / "x.item").write_text("item_id:token\tmovie_title:token_seq\n")
    with pytest.raises(InputError, match=r"x\.item holds no rows"):
        load(tmp_path)
    (tmp_path / "y.inter").write_text("a:token\n")
    with pytest.raises(InputError, match=r"several \*\.inter files: x\.inter, y\.inter"):
        load(tmp_path)


def test_csv_without_a_column(tmp_path: Path) -> None:
    write_csv(tmp_path)
    (tmp_path / "ratings.csv").write_text("userId,movie,rating,timestamp\n1,1,1,1\n")
    with pytest.raises(InputError, match=r"ratings\.csv: no column 'movieId'"):
        load(tmp_path)


def test_the_shared_copy(shared_data: Path) -> None:
    dataset = load(shared_data / "ml-100k")
    assert (len(dataset.catalogue), len(dataset.sequences), len(dataset.sequences.items)) == (1682, 943, 100_000)
    assert dataset.catalogue.texts[0] == EXPECTED[0]
