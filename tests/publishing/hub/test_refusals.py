"""What must not be published or pulled is refused in one line, before anything is sent."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftrec.cli import main
from peftrec.config import InputError, RecipeError
from peftrec.publishing import replace_texts
from peftrec.publishing.card import About
from peftrec.publishing.hub import push_run
from peftrec.publishing.hub.hub_name import HubName
from peftrec.publishing.hub.push import PushReport
from peftrec.publishing.hub.repository import look
from peftrec.publishing.hub.staging import stage
from peftrec.publishing.manifest import MANIFEST, file_table, sealed

BASE = "acme/tiny-bert"


def sign(folder: Path) -> None:
    """Bring the checksums in line with the files, as someone who edits on purpose would."""
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(sealed({**content, "files": file_table(folder)})))


@pytest.fixture
def dry() -> Callable[..., PushReport]:
    """Stage a run and search its files; no Hub is needed for it."""

    def call(run: Path, repo: str = "ann/dry", **options: Any) -> PushReport:
        return push_run(run, repo, **{"license": "mit", "base_model_id": BASE, "dry_run": True, **options})

    return call


# Without a Hub.


def test_a_dry_run_lists_what_a_push_sends_and_talks_to_nobody(
    hub: Any, worker: Any, dry: Any, push: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = len(hub.requests)
    report = worker(
        "push", trained, "ann/dry", license="apache-2.0", base_model_id=BASE, dry_run=True, token=None, offline=True
    )
    assert len(hub.requests) == asked
    assert (report["commit"], report["changed"], report["url"]) == (None, False, None)
    assert "ann/dry" not in hub.hub.repositories
    sent = push(trained, "ann/dry")["files"]
    # The commit of the backbone is what a dry run does not know.
    known = {"recipe.yaml", "adapter_config.json", "peftrec.json", "README.md"}
    assert report["files"].keys() == sent.keys()
    assert {name: size for name, size in report["files"].items() if name not in known} == {
        name: size for name, size in sent.items() if name not in known
    }


@pytest.mark.parametrize(
    ("repo", "words"),
    [
        ("alone", "write user/name"),
        ("a/b/c", "write user/name"),
        ("ann/with space", "names no repository"),
        ("ann/--x", "names no repository"),
        ("ann/x.git", "names no repository"),
        ("/tmp/x", "names no repository"),
        ("ann/name@branch", "--revision"),
        ("ann/" + "x" * 97, "names no repository"),
        ("", "names no repository"),
    ],
)
def test_names_that_no_repository_can_have(dry: Any, trained: Path, repo: str, words: str) -> None:
    with pytest.raises(RecipeError, match="'") as caught:
        dry(trained, repo)
    assert words in str(caught.value)


def test_a_run_beside_it_stands_in_the_card_or_is_refused(dry: Any, trained: Path, copy: Path, tmp_path: Path) -> None:
    others = {"full fine-tuning": json.loads((copy / "metrics.json").read_text())}
    about = About(license="mit")
    stage(trained, tmp_path / "a", about, "ann/a", others=others, base_model_id=BASE, with_vectors=False, ask_hub=False)
    results = (tmp_path / "a" / "README.md").read_text().partition("## Results")[2]
    assert "full fine-tuning" in next(line for line in results.splitlines() if line.startswith("| metric"))
    dry(trained, beside={"full fine-tuning": copy})
    metrics = json.loads((copy / "metrics.json").read_text())
    replace_texts(copy, {"metrics.json": json.dumps({**metrics, "data_sha256": "0" * 64})})
    with pytest.raises(InputError, match=r"'full fine-tuning': was measured on other data"):
        dry(trained, beside={"full fine-tuning": copy})
    with pytest.raises(InputError, match="there is no such run folder"):
        dry(trained, beside={"full": tmp_path / "gone"})


@pytest.mark.parametrize("given", [None, "", " "])
def test_no_license(dry: Any, trained: Path, given: str | None) -> None:
    with pytest.raises(RecipeError, match=r"needs a license.*--license"):
        dry(trained, license=given)


def test_a_license_and_a_language_that_the_hub_does_not_take(dry: Any, trained: Path) -> None:
    with pytest.raises(RecipeError, match="--license: 'Apache 2' is no identifier"):
        dry(trained, license="Apache 2")
    with pytest.raises(RecipeError, match="--language: 'English' is no code"):
        dry(trained, language=("en", "English"))


def test_a_local_backbone_without_an_id(dry: Any, trained: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match=r"folder of this machine.*--base-model-id") as caught:
        dry(trained, base_model_id=None)
    assert str(tiny_bert) in str(caught.value)


def test_a_folder_that_is_no_run_or_is_damaged(dry: Any, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        dry(tmp_path / "gone")
    with pytest.raises(InputError, match="not a run folder"):
        dry(tmp_path)
    path = copy / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors.*truncated"):
        dry(copy)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"adapter_model\.safetensors.*edited or damaged"):
        dry(copy)


SECRETS = {
    "hf_" + "q" * 34: "a token of the Hub (hf_qqq...)",
    "sk-proj-" + "q" * 24: "an API key",
    "AKIA" + "Q" * 16: "an AWS access key",
    "ghp_" + "q" * 36: "a token of GitHub",
    "https://ann:pass@host/data": "an address with a password",
    "postgresql+psycopg://ann:pass@host": "an address with a password",
}


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_in_what_would_be_sent(dry: Any, copy: Path, secret: str) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps({**metrics, "note": f"made with {secret}"}))
    sign(copy)
    with pytest.raises(InputError, match=r"metrics\.json") as caught:
        dry(copy)
    assert SECRETS[secret] in str(caught.value)
    assert secret not in str(caught.value)


def test_secrets_in_the_recipe(dry: Any, make_recipe: Any, copy: Path) -> None:
    from peftrec.recipe import load_recipe

    recipe = load_recipe(copy / "recipe.yaml", ["data.template='{title} hf_qqqqqqqqqqqqqqqqqqqqqqqq {category}'"])
    (copy / "recipe.yaml").write_text(recipe.to_yaml())
    sign(copy)
    with pytest.raises(InputError, match="looks like a token of the Hub"):
        dry(copy)


def test_tokens_and_folders_in_texts_of_items(
    dry: Any, copy: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, text = copy / "items.jsonl", (copy / "items.jsonl").read_text()

    def describe(words: str) -> None:
        items.write_text(text.replace('"text": "', f'"text": "{words} ', 1))
        sign(copy)

    # What others have written may only look like a key.
    describe("sk-ii-facial-treatment-essence")
    dry(copy)
    describe("hf_qqqqqqqqqqqqqqqqqqqqqqqq")
    with pytest.raises(InputError, match=r"items\.jsonl: holds what looks like a token of the Hub"):
        dry(copy)
    describe(f"{toy_data}/wine0.png")
    with pytest.raises(InputError, match=r"items\.jsonl: names a folder of this machine"):
        dry(copy)
    # A home right under the root.
    monkeypatch.setenv("HOME", "/tea")
    describe("/tea/notes.txt")
    with pytest.raises(InputError, match=r"items\.jsonl: names a folder of this machine \(/tea/\)"):
        dry(copy)
    describe("coffee/tea bags")
    dry(copy)


@pytest.mark.parametrize("key", ["password", "wandb_api_key", "HF_TOKEN", "client-secret", "aws.access_key"])
def test_keys_that_hold_secrets(dry: Any, copy: Path, key: str) -> None:
    path = copy / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": [{key: "x"}]}))
    sign(copy)
    with pytest.raises(InputError, match=f"environment.json: the key '{key}'"):
        dry(copy)


def test_keys_that_only_sound_like_it(dry: Any, copy: Path) -> None:
    path = copy / "environment.json"
    path.write_text(json.dumps({"max_tokens": "many", "token_budget": "x", "password": "", "secret": None}))
    sign(copy)
    dry(copy)


def test_users_are_found_in_texts_and_columns(dry: Any, copy: Path) -> None:
    path, before = copy / "metrics.json", (copy / "metrics.json").read_text()
    path.write_text(json.dumps({**json.loads(before), "worst": ["u1", "nobody"]}))
    sign(copy)
    with pytest.raises(InputError, match=r"metrics\.json: names a user of the data"):
        dry(copy)
    path.write_text(json.dumps({**json.loads(before), "rows": [{"user_id": "nobody"}]}))
    sign(copy)
    with pytest.raises(InputError, match=r"metrics\.json: has a column of users \('user_id'\)"):
        dry(copy)
    path.write_text(before)
    items = copy / "items.jsonl"
    items.write_text("".join(json.dumps({**json.loads(line), "user_id": "x"}) + "\n" for line in items.open()))
    sign(copy)
    with pytest.raises(InputError, match=r"items\.jsonl: has a column of users"):
        dry(copy)


def test_users_of_later_updates_are_found_too(dry: Any, copy: Path) -> None:
    known = dry(copy).num_users
    folder = copy / "private" / "updates" / "0"
    folder.mkdir(parents=True)
    pl.DataFrame({"user_id": ["late-user-77"]}).write_parquet(folder / "events.parquet")
    assert dry(copy).num_users == known + 1
    path = copy / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "worst": ["late-user-77"]}))
    sign(copy)
    with pytest.raises(InputError, match=r"metrics\.json: names a user of the data"):
        dry(copy)


def test_what_cannot_be_searched_for_is_told_or_refused(
    dry: Any, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "private" / "test_model.parquet").write_bytes(b"PAR1 but no table")
    with pytest.raises(
        InputError, match=r"test_model\.parquet: cannot be read .*searched for its users; mend or remove"
    ):
        dry(copy)
    shutil.rmtree(copy / "private")
    assert dry(copy).num_users is None
    words = ["push", str(copy), "ann/name", "--license", "mit", "--base-model-id", BASE, "--dry-run"]
    assert main(words) == 0
    assert "no data of users lie beside the run: texts were searched for columns of users" in capsys.readouterr().out


def test_figures_and_short_words_are_no_users(dry: Any, copy: Path) -> None:
    path = copy / "private" / "test_model.parquet"
    frame = pl.read_parquet(path)
    ids = ["123456", "7", "model", "lora", *(f"other{place}" for place in range(frame.height - 4))]
    frame.with_columns(user_id=pl.Series(ids)).write_parquet(path)
    metrics, before = copy / "metrics.json", json.loads((copy / "metrics.json").read_text())
    metrics.write_text(json.dumps({**before, "count": 123456, "kind": "model 7"}))
    sign(copy)
    dry(copy)
    metrics.write_text(json.dumps({**before, "who": "123456"}))
    sign(copy)
    with pytest.raises(InputError, match="names a user"):
        dry(copy)


def test_tensors_by_user_are_found(dry: Any, copy: Path) -> None:
    path = copy / "head.safetensors"
    save_file({**load_file(path), "user_ids": torch.zeros(3)}, path)
    sign(copy)
    with pytest.raises(InputError, match=r"head\.safetensors: has a column of users"):
        dry(copy)


def test_a_folder_of_this_machine_in_a_figure(dry: Any, copy: Path, toy_data: Path) -> None:
    path = copy / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "read": f"{toy_data}/items.csv"}))
    sign(copy)
    with pytest.raises(InputError, match=r"metrics\.json: names a folder of this machine"):
        dry(copy)


# With one.


def test_no_token_is_told_before_anything_is_loaded(hub: Any, refused: Any, trained: Path) -> None:
    asked = len(hub.requests)
    message = refused("push", trained, "ann/none", license="mit", base_model_id=BASE, token=None)
    assert "hf auth login" in message
    assert "HF_TOKEN" in message
    assert "HF_HUB_OFFLINE" in refused("push", trained, "ann/none", license="mit", base_model_id=BASE, offline=True)
    assert len(hub.requests) == asked


@pytest.fixture
def push_refused(refused: Any, hub: Any) -> Callable[..., str]:
    """Return the message of a push that is refused, and see that nothing was committed or made."""

    def call(run: Path, repo: str, **options: Any) -> str:
        before = {name: dict(one.branches) for name, one in hub.hub.repositories.items()}
        message: str = refused("push", run, repo, **{"license": "mit", "base_model_id": BASE, **options})
        assert {name: dict(one.branches) for name, one in hub.hub.repositories.items()} == before
        return message

    return call


def test_a_token_that_the_hub_does_not_know(push_refused: Any, trained: Path) -> None:
    message = push_refused(trained, "ann/wrong", token="hf_" + "z" * 34)
    assert "does not know your token" in message
    assert "zzzz" not in message


def test_names_that_are_forbidden_or_belong_to_others(push_refused: Any, trained: Path) -> None:
    for name in ("acme/forbidden", "bob/model"):
        message = push_refused(trained, name)
        assert f"{name}: you may not write there" in message
        assert "choose a name under your own user" in message


def test_what_is_known_of_a_name_is_told_before_anything_is_loaded(
    hub: Any, push: Any, push_refused: Any, trained: Path, tmp_path: Path
) -> None:
    """A folder that is no run would be refused too, had anything looked at it."""
    nothing = tmp_path / "no run"
    message = push_refused(nothing, "bob/model")
    assert "bob/model: you may not write there (you are ann); choose a name under your own user" in message
    assert "acme, ann" in message
    for branch in ("a b", "a..b", "-x", "x.lock", "a//b", ""):
        message = push_refused(nothing, "ann/name", revision=branch, kind="RecipeError")
        assert f"--revision: '{branch}' is no name of a branch" in message
    hub.hub.add("ann/else", {"model.bin": b"x"})
    assert "holds something else than a run of peftrec (model.bin" in push_refused(nothing, "ann/else")
    push(trained, "ann/known-public")
    assert "is there already and public" in push_refused(nothing, "ann/known-public", private=True)


@pytest.mark.parametrize(("role", "is_refused"), [("write", True), ("fineGrained", False)])
def test_what_a_fine_grained_token_may_is_left_to_the_hub(role: str, is_refused: bool) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    class Api:
        def whoami(self) -> dict[str, Any]:
            return {"name": "ann", "auth": {"accessToken": {"role": role}}}

        def model_info(self, repo_id: str) -> None:
            request = httpx.Request("GET", f"https://example.org/{repo_id}")
            raise RepositoryNotFoundError("none", response=httpx.Response(404, request=request))

    api: Any = Api()
    with pytest.raises(InputError, match="you may not write there") if is_refused else contextlib.nullcontext():
        look(api, HubName("acme/model"), private=False)


def test_a_repository_that_the_form_of_the_hub_made_is_filled_and_keeps_its_license(
    hub: Any, push: Any, trained: Path
) -> None:
    hub.hub.add(
        "ann/form", {"LICENSE": b"mine", ".gitattributes": b"*.bin lfs", "README.md": b"---\nlicense: mit\n---"}
    )
    push(trained, "ann/form")
    files = hub.hub.repositories["ann/form"].files
    assert files["LICENSE"].content == b"mine"
    assert b"peftrec" in files["README.md"].content
    push(trained, "ann/form")
    assert files.keys() == hub.hub.repositories["ann/form"].files.keys()


def test_a_large_file_is_not_fetched_by_accident(
    hub: Any, push: Any, refused: Any, trained: Path, tmp_path: Path
) -> None:
    from hub_double import Blob

    push(trained, "ann/large")
    repository = hub.hub.repositories["ann/large"]
    repository.commit("main", {**repository.files, "head.safetensors": Blob(b"x" * 3_000_000, large=True)}, "edit")
    message = refused("pull", "ann/large", tmp_path / "run", cache=tmp_path / "cache")
    assert "ann/large: head.safetensors has 3,000,000 bytes there, where peftrec.json says" in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1_000_000]


def test_a_name_that_is_taken_by_something_else(hub: Any, push_refused: Any, trained: Path) -> None:
    hub.hub.add("ann/taken", {"config.json": b"{}", "README.md": b"mine"})
    assert "holds something else than a run of peftrec (config.json" in push_refused(trained, "ann/taken")


def test_a_public_repository_is_not_taken_for_a_private_one(
    hub: Any, push: Any, push_refused: Any, trained: Path
) -> None:
    push(trained, "ann/public")
    assert "is there already and public" in push_refused(trained, "ann/public", private=True)


def test_a_backbone_of_another_shape(hub: Any, push_refused: Any, trained: Path, tiny_bert: Path) -> None:
    config = json.loads((tiny_bert / "config.json").read_text())
    changed = {**config, "num_hidden_layers": 5, "vocab_size": 7, "transformers_version": "1", "architectures": None}
    hub.hub.add("acme/other-shape", {"config.json": json.dumps(changed).encode()})
    message = push_refused(trained, "ann/shape", base_model_id="acme/other-shape")
    assert "num_hidden_layers (3 here, 5 there)" in message
    assert "vocab_size" in message
    assert "transformers_version" not in message
    assert "architectures" not in message


def test_a_backbone_of_the_same_shape_with_other_weights(push_refused: Any, trained: Path) -> None:
    message = push_refused(trained, "ann/weights", base_model_id="acme/other-weights")
    assert message.startswith("--base-model-id acme/other-weights: has other weights than the backbone that ")
    assert "fingerprint" in message


@pytest.mark.parametrize(
    ("model_id", "kind", "words"),
    [
        ("acme/gone", "InputError", "acme/gone: the Hub has no such repository"),
        (f"{BASE}@gone", "InputError", "has no branch, tag or commit 'gone'"),
        ("tiny", "RecipeError", "--base-model-id: 'tiny' names no repository"),
        ("acme/no-config", "InputError", "a file is missing there"),
    ],
)
def test_a_backbone_that_is_not_on_the_hub(
    hub: Any, push_refused: Any, trained: Path, model_id: str, kind: str, words: str
) -> None:
    hub.hub.add("acme/no-config")
    assert words in push_refused(trained, "ann/gone", base_model_id=model_id, kind=kind)


def test_a_probe_that_fails(push_refused: Any, copy: Path) -> None:
    probes = load_file(copy / "probes.safetensors")
    probes["item_vectors"] += 0.1
    save_file(probes, copy / "probes.safetensors")
    sign(copy)
    message = push_refused(copy, "ann/probe")
    assert "not published" in message
    assert "does not give the item vectors" in message
    assert str(copy) in message


@pytest.mark.parametrize(
    ("repo", "token", "words"),
    [
        ("ann/gone", "hf_" + "a" * 34, "the Hub has no such repository, or it is private"),
        ("acme/tiny-bert", "hf_" + "a" * 34, "is no run of peftrec (peftrec.json is missing there)"),
        ("acme/tiny-bert@gone", "hf_" + "a" * 34, "has no branch, tag or commit 'gone'"),
        ("acme/gated", "hf_" + "b" * 34, "access to it must be asked for"),
        ("acme/gated", None, "hf auth login"),
    ],
)
def test_what_cannot_be_pulled(
    hub: Any, refused: Any, tmp_path: Path, repo: str, token: str | None, words: str
) -> None:
    hub.hub.add("acme/gated", {"peftrec.json": b"{}"}, gated=True)
    message = refused("pull", repo, tmp_path / "run", token=token, cache=tmp_path / "cache")
    assert words in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"../evil.json": {}}, "no file of a run"),
        ({"/etc/evil.json": {}}, "no file of a run"),
        ({"private/users.json": {}}, "no file of a run"),
        ({"modeling.py": {}}, "lists 'modeling.py'"),
        ({"weights.bin": {}}, "no file of a run"),
        ({"..\\evil.json": {}}, "no file of a run"),
        ({"gone.json": {"sha256": "0", "bytes": 1}}, "a file is missing there"),
        (None, "is damaged there"),
        ({"format_version": 3, "parts": ["weights.bin"]}, "has format version 3, and this peftrec reads 1 and 2"),
        ({"format_version": 3, "files": {"weights.bin": {}}}, "has format version 3, and this peftrec reads 1 and 2"),
    ],
)
def test_a_manifest_that_lists_what_it_must_not(
    hub: Any, refused: Any, tmp_path: Path, listed: Any, words: str
) -> None:
    content = listed if listed and "format_version" in listed else {"format_version": 1, "files": listed}
    manifest = b"[" * 5 if listed is None else json.dumps(content).encode()
    files = {"peftrec.json": manifest, "modeling.py": b"raise SystemExit", "weights.bin": b"x"}
    hub.hub.add("ann/evil", files)
    message = refused("pull", "ann/evil", tmp_path / "run", cache=tmp_path / "cache")
    assert words in message
    assert not (tmp_path / "run").exists()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".py", ".bin")]


def test_files_that_the_manifest_does_not_list_are_not_fetched(
    hub: Any, worker: Any, push: Any, trained: Path, tmp_path: Path
) -> None:
    from hub_double import Blob

    push(trained, "ann/extra")
    repository = hub.hub.repositories["ann/extra"]
    repository.commit("main", {**repository.files, "modeling.py": Blob(b"raise SystemExit")}, "code")
    worker("pull", "ann/extra", tmp_path / "run", cache=tmp_path / "cache")
    assert not list(tmp_path.rglob("*.py"))


def test_one_changed_byte_on_the_hub(hub: Any, push: Any, refused: Any, trained: Path, tmp_path: Path) -> None:
    from hub_double import Blob

    push(trained, "ann/byte")
    repository = hub.hub.repositories["ann/byte"]
    content = repository.files["head.safetensors"].content
    changed = Blob(content[:-1] + bytes([content[-1] ^ 1]), large=True)
    repository.commit("main", {**repository.files, "head.safetensors": changed}, "edit")
    message = refused("pull", "ann/byte", tmp_path / "run", cache=tmp_path / "cache")
    assert "ann/byte: head.safetensors: was edited or damaged" in message
    # What lies damaged in the cache is never fetched again by itself.
    assert f"remove {tmp_path / 'cache' / 'models--ann--byte'} and pull again" in message
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert "head.safetensors" in refused("recommend", "ann/byte", [[]], cache=tmp_path / "cache")


def test_a_folder_that_is_taken(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("text")
    for taken in (tmp_path, tmp_path / "mine"):
        assert "is there already" in refused("pull", "ann/any", taken, kind="RecipeError")
    assert (tmp_path / "mine").read_text() == "text"
