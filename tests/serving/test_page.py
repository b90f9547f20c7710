"""The page as files: who gets it, with which headers, how large it is, which colours it has."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import peftrec

FOLDER = Path(peftrec.__file__).parent / "serving" / "page"
PATHS = {"/" if path.name == "page.html" else f"/{path.name}": path.name for path in sorted(FOLDER.iterdir())}
MOST_BYTES = 45_000
LEAST_CONTRAST = 4.5  # of text; WCAG 2.2, AA
LEAST_EDGE_CONTRAST = 3.0  # of what shows where a control is

TEXT = [
    *itertools.product(("ink", "muted", "accent"), ("ground", "surface")),
    ("ink", "tint"), ("ink", "for"), ("ink", "against"), ("on-accent", "accent"), ("on-warn", "warn"),
    ("on-bad", "bad"), ("ground", "ink"),
]  # fmt: skip
EDGES = list(itertools.product(("edge", "accent"), ("ground", "surface")))


def file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def scripts() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js")))


def colours(scheme: str) -> dict[str, str]:
    """The colours of a scheme by name; the dark one is what the light one is not."""
    light, dark = re.findall(r":root \{(.*?)\}", file("page.css"), flags=re.DOTALL)
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    return found | (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark)) if scheme == "dark" else {})


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("path", PATHS)
def test_it_is_served_and_may_load_nothing_from_elsewhere(shared_client: TestClient, path: str) -> None:
    answer = shared_client.get(path)
    assert answer.status_code == 200
    assert answer.text == file(PATHS[path])
    assert answer.headers["Content-Type"].startswith(("text/html", "text/css", "text/javascript"))
    policies = answer.headers.get_list("Content-Security-Policy")
    assert len(policies) == 1
    rules = dict(rule.split(" ", 1) for rule in policies[0].split("; "))
    assert (rules["default-src"], rules["script-src"], rules["connect-src"]) == ("'none'", "'self'", "'self'")
    assert (rules["style-src"], rules["form-action"], rules["frame-ancestors"]) == ("'self'", "'none'", "'none'")
    assert "unsafe" not in policies[0]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(answer.headers["X-Request-ID"]) == 16


@pytest.mark.parametrize("path", PATHS)
def test_it_is_sent_once_and_then_only_if_it_has_changed(shared_client: TestClient, path: str) -> None:
    first = shared_client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = shared_client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert shared_client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    head = shared_client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(first.content))


def test_only_it_may_be_kept(shared_client: TestClient) -> None:
    assert len({shared_client.get(path).headers["ETag"] for path in PATHS}) == len(PATHS)
    assert shared_client.get("/v1/items").headers["Cache-Control"] == "no-store"
    assert shared_client.get("/page.html").status_code == 404
    assert shared_client.get("/page/page.js").status_code == 404
    assert shared_client.post("/", json={}).status_code == 405


def test_it_needs_no_token_and_is_no_part_of_the_description(
    served_run: Path, start_service: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = start_service(served_run, tmp_path / "events.db", token="a-token-that-nobody-guesses", local_only=False)
    assert {client.get(path).status_code for path in PATHS} == {200}
    described = client.get("/openapi.json", headers={"Authorization": "Bearer a-token-that-nobody-guesses"}).json()
    assert not set(PATHS) & set(described["paths"])


def test_it_is_small_and_stands_alone() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES
    for name in PATHS.values():
        # The name of a language of XML, which nobody loads.
        assert not re.search(r"(https?:)?//[a-z]", re.sub(r"http://www\.w3\.org/2000/svg", "", file(name))), name


def test_every_module_is_loaded_at_once() -> None:
    modules = {path.name for path in FOLDER.glob("*.js")}
    assert set(re.findall(r'<link rel="modulepreload" href="([^"]+)">', file("page.html"))) == modules - {"page.js"}
    assert set(re.findall(r'from "\./([^"]+)";', scripts())) == modules - {"page.js"}


def test_the_policy_can_hold() -> None:
    page, script = file("page.html"), scripts()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", page, flags=re.DOTALL) == [""]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)
    assert "localStorage" not in script
    assert "cookie" not in script


def test_what_the_script_looks_for_is_there() -> None:
    page, script = file("page.html"), scripts()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    named = set(re.findall(r'(?:\$|put|on)\("([a-z-]+)"', script))
    assert len(named) > 20
    assert named <= set(ids)
    for target in re.findall(r'(?:for|aria-labelledby|aria-describedby)="([^"]+)"', page):
        assert target in ids


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme: str) -> None:
    found = colours(scheme)
    used = set(re.findall(r"var\(--([a-z-]+)\)", file("page.css")))
    assert used == set(found)
    low = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in TEXT}
    assert {pair: ratio for pair, ratio in low.items() if ratio < LEAST_CONTRAST} == {}
    edges = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in EDGES}
    assert {pair: ratio for pair, ratio in edges.items() if ratio < LEAST_EDGE_CONTRAST} == {}


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert colours("dark")["ink"] != colours("light")["ink"]
