"""MovieLens, in any of the forms in which it comes: GroupLens folders, RecBole atomic files, our own tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from peftrec.config import InputError
from peftrec.data.source import Columns, DataConfig, RawTables

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table import RawTable

_INTERACTIONS = ("user_id", "item_id", "rating", "timestamp")
# fmt: off
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
# "Toy Story (1995)", "Land Before Time III (1995) (V)", "Babylon 5 (1994-1998)"
_YEAR = r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*(?:\([A-Za-z]+\))?\s*$"
_USERS = ("user_id", "age", "gender", "occupation", "zip_code")
# What 1M writes as numbers, as its README explains them.
# fmt: off
_AGES = {
    "1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+",
}
_OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)
# fmt: on
_ATOMIC_NAMES = {"movie_title": "title", "release_year": "year", "class": "category", "genre": "category"}


@dataclass(frozen=True, kw_only=True)
class MovieLensConfig(DataConfig):
    """A MovieLens folder; the items get the columns title, year and category (genres, joined with spaces).

    Read are, in this order: `interactions.csv` with `items.csv` (what `peftrec data get` writes), GroupLens `u.data`
    (100K), `ratings.dat` (1M, 10M), `ratings.csv` (20M and later), RecBole `*.inter` with `*.item`.

    100K and 1M say something of their users too: `user_template` and `user_attributes` find the columns age (a
    number; in 1M a range such as 25-34), gender (M or F), occupation and zip_code, from `users.csv`, `u.user`,
    `users.dat` or `*.user`. RecBole's 1M keeps the numbers that stand for age and occupation. The kind of an event is
    its rating: `event_words` maps ratings.

    Args:
        folder: the folder, relative to `root`.
    """

    kind: ClassVar[str] = "movielens"
    known_as: ClassVar[str] = "MovieLens"
    terms: ClassVar[str] = "GroupLens: for research; no redistribution and no commercial use without their permission"
    folder: str = "ml-100k"

    @property
    def set_path(self) -> str:
        return self.folder

    def read(self) -> RawTables:
        """Finds out the folder's form and reads it."""
        from peftrec.data.table import resolve_path  # loads polars

        folder = resolve_path(self.folder, self.root)
        if not folder.is_dir():
            raise InputError(
                f"no such folder: {folder} (data.folder: {self.folder}, data.root: {self.root}); "
                f"'peftrec data get ml-100k' fetches the small set"
            )
        for files, reader in _FORMS:
            if all(any(folder.glob(pattern)) for pattern in files):
                interactions, items = reader(folder)
                users = _read_users(folder, files[0], f"data.{self.users_key}") if self.reads_users else None
                return RawTables(interactions, items, Columns(event=Columns().rating), users)
        wanted = "; ".join(" with ".join(files) for files, _ in _FORMS)
        raise InputError(f"{folder} is no MovieLens folder: it holds {_held(folder)}; known are {wanted}")


def _held(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"


def _read_own(folder: Path) -> tuple[RawTable, RawTable]:
    from peftrec.data.table import read_table

    return read_table(folder / "interactions.csv"), read_table(folder / "items.csv")


def _read_100k(folder: Path) -> tuple[RawTable, RawTable]:
    import polars as pl

    from peftrec.data.separated import read_separated

    interactions = read_separated(folder / "u.data", "\t", _INTERACTIONS)
    flags = [f"genre:{genre}" for genre in _GENRES]
    items = read_separated(folder / "u.item", "|", ("item_id", "title", "released", "video", "imdb", *flags))
    genres = [pl.when(pl.col(flag) == "1").then(pl.lit(flag.removeprefix("genre:"))) for flag in flags]
    items = items.with_columns(pl.concat_str(genres, separator=" ", ignore_nulls=True).alias("category"))
    return _raw(folder / "u.data", interactions), _raw(folder / "u.item", _with_year(items))


def _read_dat(folder: Path) -> tuple[RawTable, RawTable]:
    from peftrec.data.separated import read_separated

    interactions = read_separated(folder / "ratings.dat", "::", _INTERACTIONS)
    items = read_separated(folder / "movies.dat", "::", ("item_id", "title", "genres"))
    return _raw(folder / "ratings.dat", interactions), _raw(folder / "movies.dat", _with_year(_with_category(items)))


def _read_csv(folder: Path) -> tuple[RawTable, RawTable]:
    from peftrec.data.table import read_table

    ratings, movies = read_table(folder / "ratings.csv"), read_table(folder / "movies.csv")
    for table, names in (
        (ratings, ("userId", "movieId", "rating", "timestamp")),
        (movies, ("movieId", "title", "genres")),
    ):
        for name in names:
            table.column(name, "GroupLens")
    items = _with_year(_with_category(movies.frame.rename({"movieId": "item_id"})))
    interactions = ratings.frame.rename({"userId": "user_id", "movieId": "item_id"})
    return _raw(Path(ratings.name), interactions), _raw(Path(movies.name), items)


def _read_atomic(folder: Path) -> tuple[RawTable, RawTable]:
    return _read_atomic_file(folder, "*.inter"), _read_atomic_file(folder, "*.item")


def _read_atomic_file(folder: Path, pattern: str) -> RawTable:
    from peftrec.data.separated import read_atomic

    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        raise InputError(f"{folder} holds several {pattern} files: {', '.join(path.name for path in found)}; keep one")
    frame = read_atomic(found[0]).frame
    return _raw(found[0], frame.rename(_ATOMIC_NAMES, strict=False))


_Reader = Callable[[Path], "tuple[RawTable, RawTable]"]
_FORMS: tuple[tuple[tuple[str, str], _Reader], ...] = (
    (("interactions.csv", "items.csv"), _read_own),
    (("u.data", "u.item"), _read_100k),
    (("ratings.dat", "movies.dat"), _read_dat),
    (("ratings.csv", "movies.csv"), _read_csv),
    (("*.inter", "*.item"), _read_atomic),
)


def _read_users(folder: Path, interactions: str, key: str) -> RawTable:
    """The users beside interactions of one form; only 100K and 1M have them."""
    if interactions not in _USER_FORMS:
        raise InputError(f"{folder}: {interactions} comes without attributes of users; unset {key}")
    pattern, reader = _USER_FORMS[interactions]
    if not any(folder.glob(pattern)):
        raise InputError(
            f"{folder} holds no {pattern}, which {key} reads beside {interactions}; it holds "
            f"{_held(folder)}. Only 100K and 1M have attributes of users"
        )
    return reader(folder)


def _read_own_users(folder: Path) -> RawTable:
    from peftrec.data.table import read_table

    return read_table(folder / "users.csv")


def _read_100k_users(folder: Path) -> RawTable:
    from peftrec.data.separated import read_separated

    return _raw(folder / "u.user", read_separated(folder / "u.user", "|", _USERS))


def _read_dat_users(folder: Path) -> RawTable:
    import polars as pl

    from peftrec.data.separated import read_separated

    path = folder / "users.dat"
    users = read_separated(path, "::", ("user_id", "gender", "age", "occupation", "zip_code"))
    occupations = {str(number): name for number, name in enumerate(_OCCUPATIONS)}
    return _raw(path, users.with_columns(pl.col("age").replace(_AGES), pl.col("occupation").replace(occupations)))


def _read_atomic_users(folder: Path) -> RawTable:
    return _read_atomic_file(folder, "*.user")


_USER_FORMS: dict[str, tuple[str, Callable[[Path], RawTable]]] = {
    "interactions.csv": ("users.csv", _read_own_users),
    "u.data": ("u.user", _read_100k_users),
    "ratings.dat": ("users.dat", _read_dat_users),
    "*.inter": ("*.user", _read_atomic_users),
}


def _with_category(items: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    genres = pl.col("genres").replace("(no genres listed)", None).str.replace_all("|", " ", literal=True)
    return items.with_columns(genres.alias("category"))


def _with_year(items: pl.DataFrame) -> pl.DataFrame:
    """Takes the year off the title: 'Toy Story (1995)' becomes 'Toy Story' and '1995'."""
    import polars as pl

    year = pl.col("title").str.extract(_YEAR).alias("year")
    plain = pl.col("title").str.replace(_YEAR, "").str.strip_chars()
    return items.select("item_id", plain, year, "category")


def _raw(path: Path, frame: pl.DataFrame) -> RawTable:
    from peftrec.data.table import RawTable

    return RawTable(str(path), frame, tuple(frame.columns))
