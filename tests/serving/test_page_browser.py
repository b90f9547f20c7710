"""The page in Chromium: what a click, a key and an answer do to it, and what it asks for. Skipped without Chromium."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peftrec.serving.service import Service
from peftrec.serving.settings import ServiceSettings
from peftrec.serving.sqlite_store import SqliteStore

DRIVER = Path(__file__).parent / "chromium.py"
TOKEN = "a-token-that-nobody-guesses"
RULES = "rules:\n  - {kind: hide_matching, where: {category: cheese}, name: no cheese}\n"
HISTORY = "#item=wine0&item=wine1&item=wine2"
SHOWN = "document.querySelector('#list').getAttribute('aria-busy') === 'false'"
Start = Callable[..., str]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser(load_script: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = load_script(DRIVER)
    if driver.chromium_command() is None:
        pytest.skip("no Chromium on this machine")
    with driver.Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def start(shop_run: Path, listen: Callable[[Service], str], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """The function that starts a service and returns its address."""

    def start(**changes: Any) -> str:
        store = tmp_path_factory.mktemp("store") / "events.db"
        settings = ServiceSettings(**({"run": shop_run, "store": store, "rate": 0, "poll_seconds": 0.05} | changes))
        return listen(Service(settings, SqliteStore(store, settings.owner)))

    return start


@pytest.fixture(scope="module")
def address(start: Start, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A service with a rule; tests name users and items of their own."""
    rules = tmp_path_factory.mktemp("rules") / "rules.yaml"
    rules.write_text(RULES)
    return start(rules=rules)


@pytest.fixture
def at(browser: Any, address: str) -> Open:
    """The function that opens the page at a fragment and waits for its list."""

    def at(fragment: str = "") -> Any:
        browser.resize(1400, 900)
        browser.scheme("light")
        browser.open(f"{address}/{fragment}")
        browser.until(SHOWN)
        return browser

    return at


def texts(browser: Any, selector: str) -> list[str]:
    found = browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)")
    assert isinstance(found, list)
    return found


def text(browser: Any, selector: str) -> str:
    return texts(browser, selector)[0]


def focus(browser: Any, selector: str) -> None:
    assert browser.run(
        f"(e => {{ e.focus(); return document.activeElement === e }})(document.querySelector('{selector}'))"
    )


def listed(browser: Any) -> list[str]:
    return [title.split("\n")[0].strip() for title in texts(browser, "#list .entry h3")]


def said(browser: Any) -> list[str]:
    return [line for line in browser.said() if "favicon" not in line]


def test_it_opens_without_a_fault_and_asks_only_its_service(at: Open, address: str) -> None:
    browser = at()
    assert said(browser) == []
    assert all(url.startswith((address, "data:image/svg")) for url in browser.requested())
    assert text(browser, "#about").endswith("1 rule")
    assert len(listed(browser)) == 10
    assert "most popular" in text(browser, "#notice")


def test_a_list_has_titles_fields_scores_reasons_and_what_was_kept_out(at: Open) -> None:
    browser = at(HISTORY)
    browser.until("document.querySelector('#past').innerText.includes('wine')")
    assert "Because you had" in text(browser, "#list .why")
    assert "wine" in text(browser, "#list .facts")
    scores = [float(score.split("\n")[1]) for score in texts(browser, "#list .score")]
    assert scores == sorted(scores, reverse=True)
    assert texts(browser, "#list .evidence li")
    assert not any(title.endswith("cheese") for title in listed(browser))
    assert "no cheese" in text(browser, "#suppressed")
    browser.click("#explain")
    browser.until("!document.querySelector('.why')")


def test_a_click_changes_the_next_list(at: Open) -> None:
    browser = at(HISTORY)
    first = listed(browser)
    browser.click("#list .entry [data-what=add]")
    browser.until("document.querySelectorAll('#past li').length === 4")
    browser.until(SHOWN)
    assert first[0] not in listed(browser)
    assert first[0] in texts(browser, "#past li")[0]
    assert browser.run("document.activeElement.dataset.what") == "add", "the focus stays in the list"
    assert "recommendation" in text(browser, "#said")
    assert browser.run("location.hash").count("item=") == 4
    browser.click("#clear")
    browser.until("!document.querySelector('#past li')")


def test_a_click_for_a_user_is_an_event_that_is_stored(at: Open) -> None:
    browser = at()
    browser.click("[name=mode][value=user] + span")
    browser.until("!document.querySelector('#user-form').hidden")
    focus(browser, "#user")
    browser.write("näh/‘x’?")
    browser.press("Enter")
    browser.until("document.querySelector('#notice').innerText.includes('unknown user')")
    browser.click("#list .entry [data-what=add]")
    browser.until("document.querySelectorAll('#past li').length === 1")
    browser.until("document.querySelector('#notice').hidden")
    browser.open(browser.run("location.href"))  # the service knows it, not the page
    browser.until("document.querySelectorAll('#past li').length === 1")


def test_words_are_marked_when_they_are_asked_for(at: Open) -> None:
    pytest.importorskip("captum")
    browser = at(HISTORY)
    assert not any("explanations" in url for url in browser.requested())
    browser.click("#list .entry [data-what=words]")
    browser.until("document.querySelector('.more .text mark')")
    assert browser.run("document.querySelector('[data-what=words]').ariaExpanded") == "true"
    assert "text says" in text(browser, ".more")
    browser.click("#list .entry [data-what=similar]")
    browser.until("document.querySelectorAll('.more > ul > li').length === 5")
    browser.click("#list .entry [data-what=similar]")
    browser.until("document.querySelector('.more').hidden")


def test_diversity_changes_the_list_from_the_keyboard(at: Open) -> None:
    browser = at(HISTORY)
    first = listed(browser)
    focus(browser, "#diversity")
    browser.press("End")
    browser.until("location.hash.includes('diversity=0.9')")
    browser.until(f"{SHOWN} && document.querySelector('#diversity-value').innerText === '0.90'")
    assert browser.run("document.querySelector('#diversity').getAttribute('aria-valuetext')") == "0.90"
    assert listed(browser) != first
    assert len(set(texts(browser, "#list .facts li:first-child"))) >= 2


def test_a_new_item_appears_and_can_be_deleted(at: Open) -> None:
    browser = at(HISTORY)
    browser.click("summary")
    focus(browser, "#new-name")
    browser.write("red fruity wine")
    focus(browser, "#field-category")
    browser.write("wine")
    assert browser.run("document.querySelector('#new-text').value") == "red fruity wine. wine", (
        "as the template makes it"
    )
    assert browser.run("document.querySelector('#new-id').value") == "new-red-fruity-wine"
    browser.click("#new-form button.main")
    browser.until("document.querySelector('#added li')")
    assert "by score" in text(browser, "#added li")
    assert "red fruity wine" in text(browser, "#said")
    browser.click("#added button")
    browser.until("!document.querySelector('#added li')")
    assert "red fruity wine" not in listed(browser)


def test_a_history_is_built_from_the_keyboard_alone(at: Open) -> None:
    browser = at()
    browser.run("document.activeElement.blur()")
    browser.press("Tab")
    assert browser.run("document.activeElement.id") == "skip"
    focus(browser, "#search")
    browser.write("small")
    browser.until("document.querySelectorAll('#found button').length > 1")
    browser.press("ArrowDown", "ArrowDown", "ArrowUp", "Enter")
    browser.until("document.querySelectorAll('#past li').length === 1")
    assert browser.run("document.activeElement.id") == "search"
    browser.write("no such thing")
    browser.until("document.querySelector('#found').innerText.includes('No title')")
    browser.press("Escape")
    browser.until("!document.querySelector('#found').innerText")
    for _ in range(60):  # every control has its turn, and shows it
        browser.press("Tab")
        if browser.run("document.activeElement.dataset.what") == "similar":
            break
        assert browser.run(
            "(s => s.outlineStyle !== 'none' || document.activeElement === document.body)"
            "(getComputedStyle(document.activeElement.matches('[name=mode]')"
            " ? document.activeElement.nextElementSibling : document.activeElement))"
        )
    else:
        pytest.fail("the list is out of the keyboard's reach")


def test_titles_are_text_whatever_they_say(at: Open, browser: Any) -> None:
    at(HISTORY)
    title = "<img src=x onerror=alert(1)>"
    browser.click("summary")
    focus(browser, "#new-name")
    browser.write(title)
    focus(browser, "#field-category")
    browser.write("wine<b>")
    browser.click("#new-form button.main")
    browser.until("document.querySelector('#added li')")
    assert title in text(browser, "#added li")
    focus(browser, "#search")
    browser.write("onerror")
    browser.until("document.querySelector('#found button')")
    assert title in text(browser, "#found button")
    browser.press("Enter")
    browser.until("document.querySelectorAll('#past li').length === 4")
    assert browser.run("document.querySelectorAll('img, b').length") == 0
    assert said(browser) == []


def test_headings_names_and_regions_are_there(at: Open) -> None:
    browser = at(HISTORY)
    levels = browser.run("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert all(next_ <= level + 1 for level, next_ in itertools.pairwise(levels))
    unnamed = browser.run(
        "[...document.querySelectorAll('button, input, select, textarea')].filter(e => !e.closest('[hidden]'))"
        ".filter(e => !(e.ariaLabel || e.textContent || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert unnamed == []
    assert browser.run("document.querySelectorAll('main').length") == 1
    assert browser.run("document.querySelector('#said').getAttribute('aria-live')") == "polite"


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_leaves_the_screen(at: Open, width: int, scheme: str) -> None:
    browser = at(HISTORY)
    browser.resize(width, 800)
    browser.scheme(scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    out = browser.run(
        "[...document.querySelectorAll('main *:not(.unseen)')].filter(e => { const r = e.getBoundingClientRect();"
        " return r.width > 1 && (r.right > innerWidth + 1 || r.left < -1) }).map(e => e.outerHTML.slice(0, 80))"
    )
    assert out == []
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(250, 249, 247)") == (scheme == "light")


def test_a_list_is_shown_soon_after_its_answer(at: Open) -> None:
    browser = at(HISTORY)
    browser.until("performance.getEntriesByName('list shown').length")
    assert (
        browser.run("performance.getEntriesByName('list shown').at(-1).duration") < 1000
    )  # 100 where nothing else runs


def test_a_fault_is_shown_with_its_request(at: Open) -> None:
    browser = at(f"#user={'x' * 300}")
    browser.until("document.querySelector('#trouble code')")
    assert "256" in text(browser, "#trouble")
    assert len(text(browser, "#trouble code")) == 16
    assert listed(browser) == []
    assert "Try again" in text(browser, "#trouble")


def test_a_token_is_asked_for_and_kept_by_the_tab_alone(browser: Any, start: Start) -> None:
    browser.open(start(token=TOKEN))
    browser.until("!document.querySelector('#token-form').hidden")
    assert browser.run("document.activeElement.id") == "token"
    browser.write("wrong" * 5)
    browser.press("Enter")
    browser.until("document.querySelector('#token-label').innerText.includes('not the service')")
    browser.write(TOKEN)
    browser.press("Enter")
    browser.until("document.querySelectorAll('#list .entry h3').length === 10")
    assert browser.run("document.querySelector('#token-form').hidden")
    assert browser.run("localStorage.length + document.cookie.length") == 0
    assert TOKEN not in browser.run("location.href")
    assert not any(TOKEN in url for url in browser.requested())


def test_too_many_requests_are_said(browser: Any, start: Start) -> None:
    limited = start(rate=40)
    browser.open(f"{limited}/{HISTORY}")
    browser.until(SHOWN)
    browser.run("window.flood = setInterval(() => fetch('none').catch(() => 0), 4)")
    for _ in range(50):  # until one of the page's own requests is among those that are too many
        browser.click("#explain")
        browser.until(SHOWN)
        if "too many requests" in text(browser, "#trouble"):
            break
    else:
        pytest.fail("what is too much is not said")
    assert len(text(browser, "#trouble code")) == 16


def test_a_service_that_is_gone_is_said_and_may_come_back(at: Open) -> None:
    browser = at(HISTORY)
    browser.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    try:
        end = time.monotonic() + 20  # another process of the browser does as it is told a little later
        while browser.run("fetch('/', {cache: 'no-store'}).then(() => true, () => false)"):
            assert time.monotonic() < end, "the browser still has a network"
        browser.click("#explain")
        browser.until("document.querySelector('#trouble').innerText.includes('does not answer')")
    finally:
        browser.send(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
    browser.click("#trouble button")
    browser.until("document.querySelectorAll('#list .entry h3').length === 10")
    assert browser.run("document.activeElement.id") == "list-title"
