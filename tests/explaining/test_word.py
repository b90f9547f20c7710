"""Words and the tokens that stand for them: offsets that cut the words out of the text as people have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from peftrec.explaining.word import token_spans, words_of

TEXTS = (
    "small red wine. wine",
    "Don't look back-up (2-pack), USB_C: 3.5mm!",
    "  tabs\tand\nlines.  ",
    "naïve Café e\u0301clair",
    "日本語 テスト と English。",
    "สวัสดีครับ हिन्दी עִבְרִית العربية",
    "👩‍👩‍👧 👍🏽 ok ✓",
    "a" * 30 + " b",
    "\u202ereversed\u202c text",
    "x",
)


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("prefix", ["", "query: "])
@pytest.mark.parametrize("text", TEXTS)
def test_every_token_with_characters_is_in_one_word(
    text: str, prefix: str, family: str, backbones: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(backbones[family])
    spans = token_spans(tokenizer, text, max_tokens=512, prefix=prefix)
    assert len(spans) == len(tokenizer(prefix + text)["input_ids"])
    words = words_of(text, spans)
    owned = [place for _, places in words for place in places]
    assert sorted(owned) == [place for place, span in enumerate(spans) if span is not None]
    ends = 0
    for (start, end), places in words:
        assert ends <= start < end <= len(text)
        ends = end
        assert text[start:end] == text[start:end].strip()
        assert all(spans[place] is not None and start <= spans[place][0] < spans[place][1] <= end for place in places)
    covered = "".join(text[start:end] for (start, end), _ in words)
    if family == "llama":  # bytes: nothing is lost
        assert covered == "".join(text.split())


def cut(text: str, tokenizer: object, **keywords: object) -> list[str]:
    spans = token_spans(tokenizer, text, **{"max_tokens": 64, **keywords})  # type: ignore[arg-type]
    return [text[start:end] for (start, end), _ in words_of(text, spans)]


def test_words_are_what_people_take_for_words(tiny_bert: Path, tiny_llama: Path) -> None:
    for folder in (tiny_bert, tiny_llama):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert cut("Don't look, back-up!", tokenizer) == ["Don't", "look", ",", "back-up", "!"]
        assert cut("small red wine.", tokenizer, prefix="red: ") == ["small", "red", "wine", "."]
    assert cut("日本 e\u0301clair", AutoTokenizer.from_pretrained(tiny_llama)) == ["日", "本", "e\u0301clair"]


def test_what_is_cut_off_is_no_word(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    assert cut("small red wine and more", tokenizer, max_tokens=5) == ["small", "red", "wine"]


def test_tokens_over_several_words_join_them() -> None:
    assert words_of("a b c d", [None, (0, 1), (2, 5), (6, 7), None]) == [((0, 1), [1]), ((2, 5), [2]), ((6, 7), [3])]
    assert words_of("ab cd", [(0, 4), (4, 5)]) == [((0, 5), [0, 1])]
    assert words_of("   ", [None]) == []
