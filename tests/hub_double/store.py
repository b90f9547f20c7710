"""What the double holds: repositories with a history of whole snapshots, users, and large objects."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import itertools
import threading
from collections.abc import Mapping
from pathlib import Path

MAIN = "main"
# What the Hub's own first commit says is stored as large files.
LARGE = ("*.safetensors", "*.parquet", "*.npy", "*.bin", "*.pt", "*.onnx", "*.arrow", "*.gz", "*.zip")
LARGE_BYTES = 10 * 1024 * 1024
_GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE).encode()


@dataclasses.dataclass(frozen=True)
class Blob:
    """One file of a snapshot."""

    content: bytes
    large: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git itself stores of a large file."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @property
    def oid(self) -> str:
        """The git id of the blob, of a large file's pointer."""
        stored = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid


@dataclasses.dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    title: str
    files: Mapping[str, Blob]


class Repository:
    """A model repository; each commit is a whole snapshot."""

    def __init__(self, name: str, owner: str, *, private: bool = False, gated: bool = False) -> None:
        self.name, self.owner, self.private, self.gated = name, owner, private, gated
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self._number = itertools.count()
        self.commit(MAIN, {".gitattributes": Blob(_GITATTRIBUTES)}, "initial commit")

    def resolve(self, revision: str) -> Commit | None:
        """Return the commit of a branch, tag or sha."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(sha)

    def commit(self, branch: str, files: Mapping[str, Blob], title: str) -> Commit:
        parent = self.branches.get(branch)
        text = f"{self.name} {next(self._number)} {parent} {title} {sorted((n, b.oid) for n, b in files.items())}"
        made = Commit(hashlib.sha1(text.encode()).hexdigest(), parent, title, dict(files))
        self.commits[made.sha] = made
        self.branches[branch] = made.sha
        return made

    def history(self, revision: str = MAIN) -> list[Commit]:
        """Return the commits of a revision, last first."""
        found, commit = [], self.resolve(revision)
        while commit is not None:
            found.append(commit)
            commit = self.commits.get(commit.parent or "")
        return found

    @property
    def files(self) -> dict[str, Blob]:
        """Files of the main branch, but for what the Hub itself put there."""
        return {name: blob for name, blob in self.commits[self.branches[MAIN]].files.items() if name[0] != "."}


class Hub:
    """Users, repositories and large objects.

    Args:
        users: name by token.
        organisations: names of organisations by user.
        forbidden: full names that nobody may take.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        organisations: Mapping[str, tuple[str, ...]] | None = None,
        forbidden: tuple[str, ...] = (),
    ) -> None:
        self.users = dict(users)
        self.organisations = dict(organisations or {})
        self.forbidden = forbidden
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, dict[str, bytes]] = {}
        self.lock = threading.RLock()

    def add(self, name: str, files: Mapping[str, bytes] | Path = {}, **how: bool) -> Repository:  # noqa: B006
        """Put a repository there, as if somebody had."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        with self.lock:
            made = self.repositories[name] = Repository(name, name.partition("/")[0], **how)
            if files:
                blobs = {place: Blob(content, is_large(place, len(content))) for place, content in files.items()}
                made.commit(MAIN, {**made.resolve(MAIN).files, **blobs}, "files")  # type: ignore[union-attr]
        return made

    def may_write(self, user: str | None, owner: str) -> bool:
        return user is not None and (user == owner or owner in self.organisations.get(user, ()))


def is_large(path: str, size: int) -> bool:
    """Whether the Hub stores a file as a large one."""
    return size > LARGE_BYTES or any(fnmatch.fnmatch(path.rpartition("/")[2], pattern) for pattern in LARGE)
