"""YAML as people mean it, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peftrec.config import RecipeError, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4), ("1E3", 1000.0), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("-1e-3", -1e-3), ("3", 3), ("-7", -7),
        ("0", 0), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("012", "012"), ("0x10", "0x10"),
        ("1_000", "1_000"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("1e", "1e"), ("e5", "e5"), ("-", [None]),
        ("'3'", "3"), ("[a, 1, no]", ["a", 1, "no"]), ("{a: 1}", {"a": 1}),
    ],
)  # fmt: skip
def test_scalars(text: str, value: Any) -> None:
    read = parse_yaml(text, source="here")
    assert read == value
    assert type(read) is type(value)


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: 1\nmethod:\n  rank: 1\n  alpha: 2\n  rank: 3\n")
    with pytest.raises(RecipeError, match=r"r\.yaml, line 5, column 3: key 'rank' stands twice"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2", "line 1"),
        ("a: b: c", "line 1, column 5"),
        ("a:\n\t- 1", "line 2"),
        ("? [1, 2]\n: 3", "is not a plain name"),
        ("a: !!python/object/apply:os.system ['true']", "line 1"),
        ("a: !!int abc", "line 1"),
        ("a: !!bool maybe", "line 1"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("a: &x [*x]", "line 1"),
        ("a: \x00", "x.yaml"),
    ],
)
def test_broken_yaml_is_refused_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(RecipeError, match=r"^x\.yaml") as caught:
        parse_yaml(text, source="x.yaml")
    assert expected in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.yaml: there is no such file"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.yaml: is not UTF-8 text \(byte 6\)"):
        read_yaml(tmp_path / "latin.yaml")
    for content, kind in (("- 1\n", "list"), ("", "NoneType"), ("abc", "str")):
        (tmp_path / "top.yaml").write_text(content)
        with pytest.raises(RecipeError, match=rf"top\.yaml: expected key: value pairs at the top, found {kind}"):
            read_yaml(tmp_path / "top.yaml")


def test_aliases_are_read_as_what_they_stand_for() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x\nc: [*x, *x]", source="f") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2]] * 2}


def test_few_lines_that_stand_for_very_much_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    with pytest.raises(RecipeError, match="f: holds 100,000 values or more, with its aliases written out"):
        parse_yaml("\n".join(lines), source="f")
    with pytest.raises(RecipeError, match="f: is nested too deep"):
        parse_yaml("a: " + "[" * 5000 + "]" * 5000, source="f")
