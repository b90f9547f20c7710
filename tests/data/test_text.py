from __future__ import annotations

import polars as pl
import pytest

from peftrec.data.text import clean_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("AT&T &notice &copyright &notit; R&D;", "AT&T &notice &copyright &notit; R&D;"),
        ("Salt &amp;amp; Pepper &#39;n&#x27; &eacute;", "Salt & Pepper 'n' é"),
        ("a<br>b<BR/>c<p class='x'>d</p>", "a b c d"),
        ("<b>B</b>old <i>move</i>", "Bold move"),
        ("&lt;b&gt;B&lt;/b&gt;old", "Bold"),
        ("<!-- gone -->x<script>alert('<b>')</script>y<style>p {}</style>", "x y"),
        ("x < y and z > w", "x < y and z > w"),
        ("x<y and z>w", "x<y and z>w"),
        ("I <3 you, <Title>", "I <3 you,"),
        ("<unknown> stays", "<unknown> stays"),
        ("  a\t\n b\xa0\u3000c\x00d ", "a b c d"),
        ("AT&T", "AT&T"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("", ""),
    ],
)
def test_clean_text(text: str, expected: str) -> None:
    assert clean_text(pl.Series([text, None])).to_list() == [expected, None]


def test_html_can_stay() -> None:
    assert clean_text(pl.Series(["<b>a</b>  &amp;"]), strip_html=False).to_list() == ["<b>a</b> &amp;"]
