"""The endpoints that the Hub client asks when it pushes and pulls models."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import yaml

from hub_double.answer import Answer, RefusedError, Request
from hub_double.store import Blob, Commit, Hub, Repository, is_large

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
PAGE = 5


class Endpoints:
    """Answers requests from what a Hub holds.

    Args:
        hub: what it holds.
        address: of the server itself.
        store_address: another name of the same server, under which large files lie, as they do with the Hub.
    """

    def __init__(self, hub: Hub, address: str, store_address: str) -> None:
        self.hub, self.address, self.store_address = hub, address, store_address

    def answer(self, request: Request) -> Answer:
        path = request.path
        if request.token is not None and request.user is None:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        if path[:1] == ("_store",):
            return self._store(request)
        if path == ("api", "whoami-v2"):
            return self._whoami(request)
        if path == ("api", "repos", "create"):
            return self._create(request)
        if path == ("api", "validate-yaml"):
            return self._validate(request)
        if path[:2] == ("api", "models") and len(path) >= 4:
            return self._models(request)
        if len(path) == 6 and path[1].endswith(".git") and path[2:] == ("info", "lfs", "objects", "batch"):
            return self._batch(request, f"{path[0]}/{path[1].removesuffix('.git')}")
        if len(path) == 6 and path[1].endswith(".git") and path[2:] == ("info", "lfs", "objects", "verify"):
            return self._verify(request, f"{path[0]}/{path[1].removesuffix('.git')}")
        if len(path) >= 5 and path[2] == "resolve":
            return self._resolve(request, f"{path[0]}/{path[1]}", path[3], "/".join(path[4:]))
        raise RefusedError(404, f"the double has no {request.method} {request.place}")

    # Who may do what.

    def _user(self, request: Request) -> str:
        if request.user is None:
            raise RefusedError(401, "Invalid username or password.")
        return request.user

    def _readable(self, request: Request, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        hidden = found is not None and found.private and not self.hub.may_write(request.user, found.owner)
        if found is None or hidden:
            # The Hub does not tell strangers whether it is there.
            if request.user is None:
                raise RefusedError(401, "Invalid username or password.", "RepoNotFound")
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return found

    def _ungated(self, request: Request, name: str) -> Repository:
        found = self._readable(request, name)
        if found.gated and not self.hub.may_write(request.user, found.owner):
            status = 401 if request.user is None else 403
            raise RefusedError(status, f"Access to model {name} is restricted.", "GatedRepo")
        return found

    def _writable(self, request: Request, name: str) -> Repository:
        user = self._user(request)
        found = self._readable(request, name)
        if not self.hub.may_write(user, found.owner):
            raise RefusedError(403, "Forbidden: you must have write access")
        return found

    @staticmethod
    def _commit(repository: Repository, revision: str) -> Commit:
        found = repository.resolve(revision)
        if found is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    # Endpoints of no repository.

    def _whoami(self, request: Request) -> Answer:
        user = self._user(request)
        organisations = [{"name": name} for name in self.hub.organisations.get(user, ())]
        access = {"accessToken": {"displayName": "tests", "role": "write"}}
        return Answer.of({"type": "user", "name": user, "fullname": user, "orgs": organisations, "auth": access})

    def _create(self, request: Request) -> Answer:
        user, wanted = self._user(request), request.json()
        owner = wanted.get("organization") or user
        name = f"{owner}/{wanted['name']}"
        if not NAME.fullmatch(wanted["name"]):
            raise RefusedError(400, f"Invalid repo name: {name}")
        if name in self.hub.forbidden or not self.hub.may_write(user, owner):
            raise RefusedError(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        url = f"{self.address}/{name}"
        if name in self.hub.repositories:
            raise RefusedError(409, "You already created this model repo", url=url)
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        self.hub.repositories[name] = Repository(name, owner, private=private)
        return Answer.of({"url": url, "name": name, "id": name})

    def _validate(self, request: Request) -> Answer:
        errors, warnings = check_card(request.json()["content"])
        return Answer.of({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    # Endpoints of a model.

    def _models(self, request: Request) -> Answer:
        name, rest = "/".join(request.path[2:4]), request.path[4:]
        handlers: dict[tuple[str, str], Callable[..., Answer]] = {
            ("GET", "revision"): self._info,
            ("GET", "tree"): self._tree,
            ("GET", "refs"): self._refs,
            ("GET", "commits"): self._commits,
            ("POST", "preupload"): self._preupload,
            ("POST", "commit"): self._make_commit,
            ("POST", "branch"): self._branch,
            ("POST", "tag"): self._tag,
        }
        if not rest and request.method == "GET":
            return self._info(request, name)
        handler = handlers.get((request.method, rest[0])) if rest else None
        if handler is None:
            raise RefusedError(404, f"the double has no {request.method} {request.place}")
        return handler(request, name, *rest[1:])

    def _info(self, request: Request, name: str, revision: str = "main") -> Answer:
        repository = self._readable(request, name)
        commit = self._commit(repository, revision)
        return Answer.of(
            {
                "_id": name, "id": name, "modelId": name, "author": repository.owner, "sha": commit.sha,
                "private": repository.private, "gated": "manual" if repository.gated else False, "disabled": False,
                "tags": [], "downloads": 0, "likes": 0, "createdAt": "2026-01-01T00:00:00.000Z",
                "lastModified": "2026-01-01T00:00:00.000Z", "siblings": [{"rfilename": path} for path in commit.files],
            }
        )  # fmt: skip

    def _tree(self, request: Request, name: str, revision: str, *folder: str) -> Answer:
        repository = self._ungated(request, name)
        commit = self._commit(repository, revision)
        start = "".join(f"{part}/" for part in folder)
        inside = {path: blob for path, blob in commit.files.items() if path.startswith(start)}
        if start and not inside:
            raise RefusedError(404, f"{'/'.join(folder)} does not exist on '{revision}'", "EntryNotFound")
        recursive = request.query.get("recursive", "").lower() == "true"
        rows = tree_rows(inside, start, recursive=recursive)
        first = int(request.query.get("cursor", "0"))
        headers = {"X_Repo_Commit": commit.sha}
        if first + PAGE < len(rows):
            query = f"recursive={recursive}&cursor={first + PAGE}"
            headers["Link"] = f'<{self.address}{quote(request.place)}?{query}>; rel="next"'
        return Answer.of(rows[first : first + PAGE], **headers)

    def _refs(self, request: Request, name: str) -> Answer:
        found = self._readable(request, name)
        branches, tags = (
            [{"name": ref, "ref": f"refs/{kind}/{ref}", "targetCommit": sha} for ref, sha in refs.items()]
            for kind, refs in (("heads", found.branches), ("tags", found.tags))
        )
        return Answer.of({"branches": branches, "tags": tags, "converts": []})

    def _commits(self, request: Request, name: str, revision: str) -> Answer:
        repository = self._readable(request, name)
        self._commit(repository, revision)
        rows = [
            {"id": c.sha, "title": c.title, "message": "", "date": "2026-01-01T00:00:00.000Z", "authors": []}
            for c in repository.history(revision)
        ]
        return Answer.of(rows)

    def _branch(self, request: Request, name: str, branch: str) -> Answer:
        repository = self._writable(request, name)
        if branch in repository.branches:
            raise RefusedError(409, f"Reference already exists: {branch}")
        start = self._commit(repository, request.json().get("startingPoint", "main"))
        repository.branches[branch] = start.sha
        return Answer.of({})

    def _tag(self, request: Request, name: str, revision: str) -> Answer:
        repository = self._writable(request, name)
        tag = request.json()["tag"]
        if tag in repository.tags:
            raise RefusedError(409, f"Tag reference exists already: {tag}")
        repository.tags[tag] = self._commit(repository, revision).sha
        return Answer.of({})

    def _preupload(self, request: Request, name: str, revision: str) -> Answer:
        repository = self._writable(request, name)
        there = self._commit(repository, revision).files
        rows = []
        for file in request.json()["files"]:
            base64.b64decode(file["sample"], validate=True)
            old = there.get(file["path"])
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            row = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            rows.append(row | ({} if old is None else {"oid": old.etag}))
        return Answer.of({"files": rows, "commitOid": self._commit(repository, revision).sha})

    def _batch(self, request: Request, name: str) -> Answer:
        self._writable(request, name)
        there = self.hub.objects.setdefault(name, {})
        rows: list[dict[str, Any]] = []
        for wanted in request.json()["objects"]:
            row = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in there:
                href = f"{self.store_address}/_store/{name}/{wanted['oid']}?size={wanted['size']}&signature=tests"
                verify = f"{self.address}/{name}.git/info/lfs/objects/verify"
                row["actions"] = {"upload": {"href": href}, "verify": {"href": verify}}
            rows.append(row)
        return Answer.of({"transfer": "basic", "objects": rows})

    def _verify(self, request: Request, name: str) -> Answer:
        self._writable(request, name)
        wanted = request.json()
        found = self.hub.objects.get(name, {}).get(wanted["oid"])
        if found is None or len(found) != wanted["size"]:
            raise RefusedError(404, "object was not uploaded")
        return Answer.of({})

    def _store(self, request: Request) -> Answer:
        """The store of large files, which knows no tokens but signed addresses."""
        if request.token is not None:
            raise RefusedError(400, "the token of the Hub must not be sent to its store")
        name, oid = "/".join(request.path[1:3]), request.path[3]
        if request.query.get("signature") != "tests":
            raise RefusedError(403, "Request is not signed")
        objects = self.hub.objects.setdefault(name, {})
        if request.method == "PUT":
            found = Blob(request.body, large=True)
            if found.sha256 != oid or len(request.body) != int(request.query["size"]):
                raise RefusedError(400, "The content is not what its name says")
            objects[oid] = request.body
            return Answer(200, headers={"ETag": f'"{oid}"'})
        content = objects.get(oid) or self._large(name, oid)
        return self._content(request, content, {"ETag": f'"{oid}"'})

    def _large(self, name: str, oid: str) -> bytes:
        for commit in self.hub.repositories[name].commits.values():
            for blob in commit.files.values():
                if blob.large and blob.sha256 == oid:
                    return blob.content
        raise RefusedError(404, "no such object")

    def _make_commit(self, request: Request, name: str, branch: str) -> Answer:
        repository = self._writable(request, name)
        if branch not in repository.branches:
            raise RefusedError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        header, operations = lines[0], lines[1:]
        assert header["key"] == "header"
        parent = header["value"].get("parentCommit")
        if parent is not None and parent != repository.branches[branch]:
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(self._commit(repository, branch).files)
        for operation in operations:
            self._apply(name, operation["key"], operation["value"], files)
        card = files.get("README.md")
        if card is not None and (errors := check_card(card.content.decode())[0]):
            raise RefusedError(400, "Invalid metadata in README.md", errors=errors)
        made = repository.commit(branch, files, header["value"]["summary"])
        url = f"{self.address}/{name}/commit/{made.sha}"
        return Answer.of({"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""})

    def _apply(self, name: str, key: str, value: dict[str, Any], files: dict[str, Blob]) -> None:
        path = value["path"]
        if key == "file":
            content = base64.b64decode(value["content"], validate=True)
            if is_large(path, len(content)) and content:
                raise RefusedError(400, f"{path} must be stored as a large file")
            files[path] = Blob(content)
        elif key == "lfsFile":
            content_of = self.hub.objects.get(name, {})
            if value["oid"] not in content_of:
                raise RefusedError(400, f"LFS pointer of {path} points to a file that was not uploaded")
            files[path] = Blob(content_of[value["oid"]], large=True)
        elif key == "deletedFile":
            if path not in files:
                raise RefusedError(404, "A file with this name doesn't exist", "EntryNotFound")
            del files[path]
        else:
            raise RefusedError(400, f"the double does not know the operation {key}")

    # Files.

    def _resolve(self, request: Request, name: str, revision: str, path: str) -> Answer:
        repository = self._ungated(request, name)
        commit = self._commit(repository, revision)
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        blob = commit.files.get(path)
        if blob is None:
            missing = RefusedError(404, "Entry not found", "EntryNotFound").answer
            return Answer(404, missing.body, {**missing.headers, **headers})
        if blob.large:
            place = f"{self.store_address}/_store/{name}/{blob.sha256}?signature=tests"
            linked = {"X-Linked-ETag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content)), "Location": place}
            return Answer(302, b"", {**headers, **linked})
        return self._content(request, blob.content, {**headers, "ETag": f'"{blob.etag}"'})

    @staticmethod
    def _content(request: Request, content: bytes, headers: dict[str, str]) -> Answer:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted is None:
            return Answer(200, content, headers)
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        if first >= len(content):
            return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
        part = content[first : last + 1]
        return Answer(206, part, {**headers, "Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"})


def tree_rows(inside: dict[str, Blob], start: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Return what a tree lists: files, and the folders between."""
    rows: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(inside.items()):
        parts = path.removeprefix(start).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            folder = start + "/".join(parts[:depth])
            rows[folder] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
        if recursive or len(parts) == 1:
            row: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path}
            if blob.large:
                row["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
            rows[path] = row
    return list(rows.values())


def check_card(text: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return what the Hub has against a card's metadata: errors and warnings."""
    found = re.match(r"---\s*\n(.*?\n)---\s*(?:\n|$)", text, re.DOTALL)
    if found is None:
        return [], [{"message": "empty or missing yaml metadata in repo card"}]
    try:
        values = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [{"message": f"invalid YAML: {error}"}], []
    if not isinstance(values, dict):
        return [{"message": "metadata must be a mapping"}], []
    errors = []
    base = values.get("base_model")
    for name in [base] if isinstance(base, str) else base or []:
        if name.startswith(("/", ".")):
            errors.append({"message": f'"base_model" with value "{name}" is not valid'})
    if "license" in values and not isinstance(values["license"], str | list):
        errors.append({"message": '"license" must be a string'})
    return errors, []
