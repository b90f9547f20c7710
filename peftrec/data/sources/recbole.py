"""RecBole's atomic files: NAME.inter, NAME.item and NAME.user, with a type behind each column's name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from peftrec.config import InputError
from peftrec.data.source import Columns, DataConfig, RawTables

if TYPE_CHECKING:
    from peftrec.data.table import RawTable


@dataclass(frozen=True, kw_only=True)
class RecBoleConfig(DataConfig):
    """A folder of atomic files; the users' one is read only where a template or attributes ask for it.

    Columns keep their names, without the type: `title:token_seq` is `{title}` in a template.

    Args:
        folder: the folder, relative to `root`.
        dataset: NAME of the files; None where the folder holds one such set.
        field_separator: one character, what stands between two values.
        seq_separator: what stands between the parts of a token_seq or float_seq; parts are joined with spaces where it
            is one, else with ', '.
        columns: what the columns are called there.
    """

    kind: ClassVar[str] = "recbole"
    folder: str
    dataset: str | None = None
    field_separator: str = "\t"
    seq_separator: str = " "
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.field_separator) != 1:
            raise ValueError(f"field_separator: {self.field_separator!r} is not one character")
        if not self.seq_separator or self.seq_separator == self.field_separator:
            raise ValueError(
                f"seq_separator: {self.seq_separator!r} must be a text, and another than field_separator "
                f"{self.field_separator!r}"
            )

    @property
    def set_path(self) -> str:
        return self.dataset or self.folder

    def read(self) -> RawTables:
        """Reads NAME.inter and NAME.item, and NAME.user where a template or attributes ask for it."""
        from peftrec.data.table import resolve_path

        folder = resolve_path(self.folder, self.root)
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder} (data.folder: {self.folder}, data.root: {self.root})")
        name = self.dataset or _only_name(folder)
        users = self._table(folder, name, "user") if self.reads_users else None
        return RawTables(self._table(folder, name, "inter"), self._table(folder, name, "item"), self.columns, users)

    def _table(self, folder: Path, name: str, suffix: str) -> RawTable:
        from peftrec.data.separated import read_atomic

        path = folder / f"{name}.{suffix}"
        if not path.is_file():
            there = ", ".join(sorted(other.name for other in folder.iterdir())[:12]) or "nothing"
            key = "user_attributes" if self.user_template is None else "user_template"
            needed = f"; data.{key} reads it" if suffix == "user" else ""
            raise InputError(f"no such file: {path}{needed}. The folder holds {there}")
        return read_atomic(path, separator=self.field_separator, seq_separator=self.seq_separator)


def _only_name(folder: Path) -> str:
    found = sorted(path.stem for path in folder.glob("*.inter"))
    if len(found) != 1:
        held = f"{len(found)} .inter files ({', '.join(found)})" if found else "no .inter file"
        raise InputError(f"{folder} holds {held}; say in data.dataset which NAME of NAME.inter is meant")
    return found[0]
