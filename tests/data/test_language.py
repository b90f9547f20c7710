from __future__ import annotations

import pytest

from peftrec.data.language import NO_LETTERS, UNCLEAR, count_languages, guess_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The lamp with a shade for the desk", "English"),
        ("Die Lampe mit dem Schirm für den Tisch", "German"),
        ("La lampe avec un abat-jour pour le bureau", "French"),
        ("La lámpara con una pantalla para el escritorio", "Spanish"),
        ("La lampada con gli occhi che sono nel libro", "Italian"),
        ("Uma lâmpada não muito grande para os livros", "Portuguese"),
        ("De lamp met een kap voor het bureau", "Dutch"),
        ("Lampan med en skärm för det och ett bord", "Swedish"),
        ("Lampa nie jest na biurko ale przez okno", "Polish"),
        ("Bu lamba çok büyük ve masa için", "Turkish"),
        ("Lampu yang tidak dengan meja untuk anda", "Indonesian"),
        ("Đèn của những người không có bàn", "Vietnamese"),
        ("красная лампа", "Cyrillic script"),
        ("κόκκινη λάμπα", "Greek"),
        ("מנורה אדומה", "Hebrew"),
        ("مصباح أحمر", "Arabic script"),
        ("红色的灯", "Chinese"),
        ("赤いランプと机", "Japanese"),
        ("빨간 램프", "Korean"),
        ("โคมไฟ", "Thai"),
        ("लाल दीपक", "Devanagari script"),
        ("Toy Story", UNCLEAR),
        ("Die Hard", UNCLEAR),
        ("Sony красная", "Cyrillic script"),
        ("Sony WH-1000XM4 наушники", "Cyrillic script"),
        ("Sony Playstation Dualshock лампа", UNCLEAR),
        ("🎉🎂 2024 - 12:30", NO_LETTERS),
        ("", NO_LETTERS),
    ],
)
def test_guesses(text: str, language: str) -> None:
    assert guess_language(text) == language


def test_counts_are_spread_over_long_lists() -> None:
    texts = ["the cat and the dog"] * 30 + ["der Hund und die Katze"] * 10
    assert count_languages(texts) == ({"English": 30, "German": 10}, 40)
    assert count_languages(texts, most=4) == ({"English": 3, "German": 1}, 4)


def test_a_very_long_text_is_not_read_whole() -> None:
    assert guess_language("the " * 200 + "и" * 1_000_000) == "English"
