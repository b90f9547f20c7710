"""A guess at the language of texts, by script and by stop words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

# Scripts that tell the language, or a family of them. Ranges of Unicode; Japanese and Korean stand before Chinese,
# whose characters they use too.
_SCRIPTS = {
    "Japanese": "\u3040-\u30ff\u31f0-\u31ff",
    "Korean": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Chinese": "\u3400-\u4dbf\u4e00-\u9fff",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic script": "\u0400-\u052f",
    "Armenian": "\u0530-\u058f",
    "Hebrew": "\u0590-\u05ff\ufb1d-\ufb4f",
    "Arabic script": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff",
    "Devanagari script": "\u0900-\u097f",
    "Bengali script": "\u0980-\u09ff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Thai": "\u0e00-\u0e7f",
    "Georgian": "\u10a0-\u10ff",
    "Ethiopic script": "\u1200-\u137f",
}
_LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
# Frequent short words. Those of several languages count for each of them, and a draw is no guess; what is a word of
# English too ("die", "as", "her") stands there as well, lest single ones in names be taken for another language.
_STOP_WORDS = {
    "English": "the of and to in is for with on by from that this are your you an at it be as do no me die her son it",
    "German": "der die das und mit für von den dem ein eine einer im zu auf ist nicht des aus bei",
    "French": "le la les des et du une un pour avec dans sur est au aux en pas par vous ce",
    "Spanish": "el la los las de del una un para con en por que es al se su como más sus",
    "Italian": "il lo la gli di del della una un per con in che da sono nel al più dei delle",
    "Portuguese": "os de da dos das uma um para com em que não por na são mais como seu sua ao",
    "Dutch": "de het een en van voor met op te zijn is in dat niet aan bij uit ook naar je",
    "Swedish": "och att det en ett för med på av den som är till inte om från de har kan du",
    "Polish": "na do nie się jest dla od po jak to że za przez oraz ze są czy ich jego",
    "Turkish": "ve bir bu için ile da de ne çok daha en olarak gibi kadar olan mi her sonra ya en",
    "Indonesian": "yang dan di untuk dengan dari ini itu pada adalah ke tidak atau dalam akan oleh juga anda kami bisa",
    "Vietnamese": "và của cho các là không có được một với trong những người để này từ khi ở đã về",
}
UNCLEAR = "Latin script, language unclear"
NO_LETTERS = "no letters"
_READ = 500  # characters of a text that are looked at
_COMPILED = {name: re.compile(f"[{span}]") for name, span in _SCRIPTS.items()}
_LETTERS = re.compile(f"[{_LATIN}]")
_WORDS = re.compile(rf"[{_LATIN}]+")
_LANGUAGES = {language: frozenset(words.split()) for language, words in _STOP_WORDS.items()}


def guess_language(text: str) -> str:
    """The language of a text, or its script, as a guess.

    The script with the most characters decides, where it belongs to one language; Chinese characters beside a tenth of
    kana or hangul are Japanese or Korean. Among the languages in Latin script that one wins of which the most stop
    words occur; where there is none, as in most names, or a draw, the guess is `UNCLEAR`. Other languages in Latin
    script than the twelve listed are taken for one of them or for unclear. Digits, signs and emoji do not count.

    Args:
        text: any text; its first 500 characters are looked at.
    Returns:
        A language (`English`), a script that several languages share (`Cyrillic script`), `UNCLEAR` or `NO_LETTERS`.
    """
    text = text[:_READ]
    latin = len(_LETTERS.findall(text))
    counts = {} if text.isascii() else {name: len(found.findall(text)) for name, found in _COMPILED.items()}
    name = max(counts, key=lambda script: counts[script], default="")
    if name and counts[name] >= max(latin, 1):
        for eastern in ("Japanese", "Korean"):
            if name == "Chinese" and counts[eastern] * 10 >= counts["Chinese"]:
                return eastern
        return name
    return _of_stop_words(text) if latin else NO_LETTERS


def count_languages(texts: Sequence[str], *, most: int = 20_000) -> tuple[dict[str, int], int]:
    """How many texts are guessed to be of each language.

    Args:
        texts: any number.
        most: where there are more, so many are looked at, evenly spread.
    Returns:
        Counts, the largest first, and how many texts were looked at.
    """
    step = max(1, -(-len(texts) // most))
    looked_at = texts[::step]
    return dict(Counter(guess_language(text) for text in looked_at).most_common()), len(looked_at)


def _of_stop_words(text: str) -> str:
    words = Counter(_WORDS.findall(text.lower()))
    hits = {language: sum(words[word] for word in stops & words.keys()) for language, stops in _LANGUAGES.items()}
    best = max(hits.values())
    winners = [language for language, count in hits.items() if count == best]
    return winners[0] if best and len(winners) == 1 else UNCLEAR
