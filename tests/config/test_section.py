"""Strict parsing of sections: unknown keys, types, ranges, choices, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.config import (
    Range,
    RecipeError,
    Registry,
    dump_yaml,
    nearest,
    parse_section,
    parse_yaml,
    section_to_dict,
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    kind: ClassVar[str]
    name: str = "unnamed"


@dataclass(frozen=True, kw_only=True)
class Circle(Shape):
    kind: ClassVar[str] = "circle"
    radius: Annotated[float, Range(gt=0)] = 1.0


@dataclass(frozen=True, kw_only=True)
class Square(Shape):
    kind: ClassVar[str] = "square"
    side: Annotated[int, Range(ge=1, le=10)] = 2

    def __post_init__(self) -> None:
        if self.side == 7:
            raise ValueError("side: 7 is unlucky")


SHAPES = Registry("shape", {"circle": f"{__name__}:Circle", "square": f"{__name__}:Square"})


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: Annotated[int, Range(ge=0, lt=5)] = 1
    label: str = "x"


@dataclass(frozen=True, kw_only=True)
class Outer:
    number: int
    share: float = 0.5
    flag: bool = False
    text: str = "t"
    mode: Literal["fast", "exact"] = "fast"
    top: Literal["all"] | Annotated[int, Range(ge=1)] = "all"
    limit: int | None = None
    names: tuple[str, ...] = ()
    cuts: tuple[Annotated[int, Range(ge=1)], ...] = (10,)
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    shape: Annotated[Shape, SHAPES] = field(default_factory=Circle)
    second: Annotated[Shape, SHAPES] | None = None


def parse(**values: Any) -> Outer:
    return parse_section(Outer, {"number": 1, **values})


def test_defaults_and_given_values() -> None:
    section = parse(share=1, limit=3, cuts=[1, 2], inner={"depth": 4}, shape={"kind": "square", "side": 3})
    assert section == Outer(number=1, share=1.0, limit=3, cuts=(1, 2), inner=Inner(depth=4), shape=Square(side=3))
    assert isinstance(section.share, float)
    assert section.second is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"nmbr": 1}, r"^nmbr: unknown key\. Did you mean 'number'\? Known here: number, share"),
        ({"inner": {"detph": 1}}, r"^inner\.detph: unknown key\. Did you mean 'depth'\?"),
        ({"shape": {"kind": "circle", "side": 3}}, r"^shape\.side: unknown key\..*Known here: name, radius"),
        ({"shape": {"kind": "sqare"}}, r"^shape\.kind: unknown kind 'sqare' \(str\)\. Did you mean 'square'\?"),
        ({"shape": {"radius": 2.0}}, r"^shape\.kind: missing\. One of: circle, square"),
        ({"shape": {"kind": ["circle"]}}, r"^shape\.kind: unknown kind \['circle'\] \(list\)"),
        ({"shape": {"kind": None}}, r"^shape\.kind: unknown kind None"),
        ({"shape": "circle"}, r"^shape: expected a section .*found 'circle' \(str\)"),
        ({"inner": 3}, r"^inner: expected a section .*found 3 \(int\)"),
        ({"inner": None}, r"^inner: expected a section .*found None"),
        ({"inner": {"depth": 5}}, r"^inner\.depth: 5 is out of range; it must be >= 0 and < 5"),
        ({"inner": {"depth": -1}}, r"^inner\.depth: -1 is out of range"),
        ({"shape": {"kind": "circle", "radius": 0}}, r"^shape\.radius: 0.0 is out of range; it must be > 0"),
        ({"shape": {"kind": "square", "side": 11}}, r"^shape\.side: 11 is out of range; it must be >= 1 and <= 10"),
        ({"shape": {"kind": "square", "side": 7}}, r"^shape.side: 7 is unlucky"),
        ({"mode": "exat"}, r"^mode: 'exat' \(str\) is not allowed\. Did you mean 'exact'\? One of: fast, exact"),
        ({"mode": True}, r"^mode: True \(bool\) is not allowed"),
        ({"cuts": [1, 0]}, r"^cuts\[1\]: 0 is out of range; it must be >= 1"),
        ({"cuts": 3}, r"^cuts: expected a list, found 3 \(int\)"),
        ({"names": "abc"}, r"^names: expected a list, found 'abc' \(str\)"),
        ({"names": [1]}, r"^names\[0\]: expected a text .*found 1 \(int\)"),
        ({"weights": {"a": "b"}}, r"^weights\.a: expected a number, found 'b' \(str\)"),
        ({"weights": [1]}, r"^weights: expected key: value pairs"),
        ({"top": "al"}, r"^top: 'al' \(str\) is not allowed.* or expected a whole number, found 'al' \(str\)"),
        ({"top": 0}, r"^top: .*0 is out of range; it must be >= 1"),
        ({"limit": "3"}, r"^limit: expected a whole number, found '3' \(str\)"),
        ({"share": float("nan")}, r"^share: nan is not a finite number"),
        ({"share": float("inf")}, r"^share: inf is not a finite number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_path(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected) as caught:
        parse(**values)
    assert "\n" not in str(caught.value)


def test_a_key_without_default_must_be_given() -> None:
    with pytest.raises(RecipeError, match=r"^number: missing; it has no default"):
        parse_section(Outer, {})


def test_the_top_must_be_a_section() -> None:
    with pytest.raises(RecipeError, match=r"^recipe: expected a section"):
        parse_section(Outer, [1])


@pytest.mark.parametrize(
    ("key", "wanted", "wrong"),
    [
        ("number", "a whole number", [True, "3", 3.0, None, [3]]),
        ("share", "a number", [True, "0.5", None, {}]),
        ("flag", "true or false", [0, 1, "true", "no", None]),
        ("text", "a text", [1, 1.5, True, None, ["t"]]),
    ],
)
def test_scalars_are_never_converted(key: str, wanted: str, wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises(RecipeError, match=rf"^{key}: expected {wanted}.*found .*\({type(value).__name__}\)"):
            parse_section(Outer, {"number": 1, key: value})


def test_kind_comes_first_and_every_default_is_written_out() -> None:
    plain = section_to_dict(Outer(number=2, shape=Square()))
    assert plain["shape"] == {"kind": "square", "name": "unnamed", "side": 2}
    assert next(iter(plain["shape"])) == "kind"
    assert plain["second"] is None
    assert plain["cuts"] == [10]
    assert parse_section(Outer, plain) == Outer(number=2, shape=Square())


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    number=st.integers(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    text=texts
    | st.sampled_from(
        [
            "no",
            "012",
            "3e-4",
            "~",
            "null",
            "true",
            "",
            "=",
            "<<",
            "1_000",
            "0x10",
            ".inf",
            "a\x85b",
            "\u2028",
            "a\u2029\n",
        ]
    ),
    names=st.lists(texts, max_size=3),
    limit=st.none() | st.integers(),
)
def test_dump_reads_back_equal(
    number: int, share: float, flag: bool, text: str, names: list[str], limit: int | None
) -> None:
    section = Outer(number=number, share=share, flag=flag, text=text, names=tuple(names), limit=limit)
    plain = section_to_dict(section)
    read = parse_yaml(dump_yaml(plain), source="dump")
    assert read == plain
    assert parse_section(Outer, {**read, "shape": {"kind": "circle"}}) == section


def test_nearest_keeps_quiet_when_nothing_is_near() -> None:
    assert nearest("lorra", ["lora", "full"]) == " Did you mean 'lora'?"
    assert nearest("zzz", ["lora", "full"]) == ""


def test_registry() -> None:
    assert SHAPES.kinds() == ("circle", "square")
    with pytest.raises(
        RecipeError, match=r"unknown shape kind 'cirkle'\. Did you mean 'circle'\? Known: circle, square"
    ):
        SHAPES.load("cirkle")
