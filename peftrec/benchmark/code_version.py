"""Which code made a result: results of different code are not set side by side unawares."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import peftrec
from peftrec.config import InputError
from peftrec.publishing import replace_text

PACKAGE: Final = Path(peftrec.__file__).parent
# What starts, searches, serves and reports runs decides nothing about what a run becomes.
_OUTSIDE: Final = ("benchmark", "cli", "serving", "tuning")
# What measures costs.
_MEASURING: Final = ("benchmark/cost", "benchmark/speed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeState:
    """Which code made something.

    Args:
        code: its digest; None where it cannot be known, or was not one.
        dirty: whether it differed from its commit.
    """

    code: str | None
    dirty: bool

    def write(self, path: Path) -> None:
        """Note it in a file."""
        replace_text(path, json.dumps(dataclasses.asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> CodeState | None:
        """Return what a file notes; None where there is none.

        Raises:
            InputError: if it is damaged.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: does not tell which code began a run ({error}); remove it") from None


def code_of_files(package: Path = PACKAGE) -> str:
    """Return a digest of the modules that decide what a run becomes, as they are now.

    Args:
        package: folder of the library.
    """
    paths = sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    return _digest((path, _blob(package / path)) for path in paths)


def code_of_commit(commit: str, package: Path = PACKAGE) -> str | None:
    """Return the same digest for a commit of the repository that the library runs from.

    Returns:
        None where there is no repository, or it does not have the commit.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-tree", "-r", "-z", commit, "--", package.name],
            cwd=package.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    files = {}
    for line in listed.split("\0"):
        facts, _, path = line.partition("\t")
        if path.endswith(".py"):
            files[path.removeprefix(f"{package.name}/")] = facts.split()[2]
    return _digest(sorted(files.items())) if files else None


def is_dirty(package: Path = PACKAGE) -> bool:
    """Tell whether the files differ from the commit that is checked out; without a repository they cannot."""
    if not (package.parent / ".git").exists():
        return False
    head = code_of_commit("HEAD", package)
    return head is not None and head != code_of_files(package)


def measuring_code(package: Path = PACKAGE) -> str:
    """Return a digest of the modules that measure costs: those of two ways of measuring are not set side by side."""
    paths = sorted(path for folder in _MEASURING for path in (package / folder).rglob("*.py"))
    lines = [f"{path.relative_to(package).as_posix()} {_blob(path)}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def changed_files(paths: Iterable[str | Path]) -> list[str]:
    """Return which files differ from the commit that is checked out, or are in none, where a repository holds them.

    Args:
        paths: of files; what git ignores, or lies in no repository, cannot be said to differ.
    """
    changed = []
    for path in map(Path, paths):
        try:
            done = subprocess.run(
                ["git", "status", "--porcelain", "--untracked-files=all", "--", path.name],
                cwd=path.parent,
                capture_output=True,
                text=True,
                timeout=30,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0 and done.stdout.strip():
            changed.append(str(path))
    return changed


def _digest(files: Iterable[tuple[str, str]]) -> str:
    lines = [f"{path} {blob}\n" for path, blob in files if path.partition("/")[0] not in _OUTSIDE]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _blob(path: Path) -> str:
    """Return the name that git gives to a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
