"""Completions under the search bar, in a real browser, against canned answers of the HTTP contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from .conftest import COMPLETIONS, INJECTION, StubGateway
from .test_page import LOW_CONTRAST, SearchPage

OFFERED = [completion["text"].strip() for completion in COMPLETIONS["bil"]]


@pytest.fixture
def page(browser: Chrome, base_url: str) -> Iterator[SearchPage]:
    search_page = SearchPage(browser, base_url)
    search_page.emulate()
    search_page.open()
    search_page.console()  # what earlier tests left
    yield search_page
    browser.get("about:blank")


def offered(page: SearchPage) -> list[str]:
    """The completions that can be seen."""
    return [text.text for text in page.browser.find_elements(By.CSS_SELECTOR, ".completion-text") if text.is_displayed()]


def type_and_wait(page: SearchPage, typed: str = "bil") -> None:
    page.search(typed)
    page.until(lambda: offered(page), "completions")
    page.until_titles(typed)


def test_typing_offers_completions_and_enter_takes_one(page: SearchPage, stub: StubGateway) -> None:
    """Completions open while typing; arrows walk them in a ring, and Enter puts one into the bar and searches for it."""
    type_and_wait(page)
    assert offered(page) == OFFERED
    assert page.one("#completion-0").text.split("\n") == ["Billie Jean", "Track · Michael Jackson"]
    assert page.one("#completions").aria_role == "listbox"
    assert (page.input.get_attribute("aria-controls"), page.input.get_attribute("aria-expanded")) == ("completions", "true")
    assert page.active is None
    page.input.send_keys(Keys.ARROW_UP)
    assert page.active == "completion-2"
    page.input.send_keys(Keys.ARROW_DOWN)
    assert page.active is None
    page.input.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.active == "completion-1"
    selected = page.browser.find_elements(By.CSS_SELECTOR, "[aria-selected=true]")
    assert [option.get_attribute("id") for option in selected] == ["completion-1"]
    page.input.send_keys(Keys.ENTER)
    page.until_titles("Billie Eilish")
    assert page.input.get_attribute("value") == "Billie Eilish"
    assert (offered(page), page.active, page.input.get_attribute("aria-controls")) == ([], None, "hits")
    assert stub.suggests == ["bil"]
    assert page.console() == []


def test_a_click_takes_a_completion(page: SearchPage) -> None:
    """The mouse takes a completion as the keyboard does, and the bar keeps the focus."""
    type_and_wait(page)
    page.one("#completion-0").click()
    page.until_titles("Billie Jean")
    assert offered(page) == []
    assert page.browser.switch_to.active_element == page.input


def test_escape_closes_the_completions_before_it_clears(page: SearchPage) -> None:
    """The first Escape closes the list and leaves what was typed, arrows then reach the hits; the second clears the bar."""
    type_and_wait(page)
    page.input.send_keys(Keys.ARROW_DOWN, Keys.ESCAPE)
    assert (offered(page), page.active, page.input.get_attribute("value")) == ([], None, "bil")
    page.input.send_keys(Keys.ARROW_DOWN)
    assert page.active == "hit-0"
    page.input.send_keys(Keys.ESCAPE)
    assert page.input.get_attribute("value") == ""


def test_enter_without_a_choice_searches_what_was_typed(page: SearchPage, stub: StubGateway) -> None:
    """Enter with no active completion closes the list and searches the text itself."""
    type_and_wait(page)
    page.input.send_keys(Keys.ENTER)
    page.until(lambda: len(stub.searches) == 2, "the search repeated")
    assert stub.searches[-1]["query"] == page.input.get_attribute("value") == "bil"
    assert offered(page) == []


def test_completions_follow_the_text_and_leave_with_the_focus(page: SearchPage) -> None:
    """More letters bring other completions, none where none begin so, and the list closes when the bar loses the focus."""
    type_and_wait(page)
    page.input.send_keys("l")
    page.until(lambda: offered(page) == ["Billie Eilish"], "the completions of four letters")
    page.browser.execute_script("document.activeElement.blur()")
    assert offered(page) == []
    page.input.send_keys("x")
    page.until_titles("billx")
    assert offered(page) == []


@pytest.mark.parametrize(
    "cancellable", [pytest.param(True, id="request-cancelled"), pytest.param(False, id="request-cannot-be-cancelled")]
)
def test_completions_of_an_older_text_are_never_shown(page: SearchPage, stub: StubGateway, cancellable: bool) -> None:
    """What was asked for an overtaken text stays off the page, even when it arrives whole after the newer completions."""
    if not cancellable:
        page.browser.execute_script("const send = fetch; fetch = (to, {signal, ...rest} = {}) => send(to, rest);")
    page.search("slow")
    page.until(lambda: stub.suggests == ["slow"], "the slow completions under way")
    page.search("bil")
    page.until(lambda: offered(page) == OFFERED, "the newer completions")
    stub.release_slow.set()
    statuses = (
        "return performance.getEntriesByType('resource')"
        ".filter((e) => /suggest.q=slow/.test(e.name)).map((e) => e.responseStatus)"
    )
    expected = [0 if cancellable else 200]
    page.until(lambda: page.browser.execute_script(statuses) == expected, "the slow request cancelled, or answered last")
    page.browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert offered(page) == OFFERED


def test_markup_in_a_completion_is_text(page: SearchPage) -> None:
    """A name that holds a script element is shown letter by letter and makes no element."""
    type_and_wait(page, "markup")
    assert offered(page) == [INJECTION]
    assert page.browser.find_elements(By.CSS_SELECTOR, ".completion script, .completion img") == []
    assert page.browser.title == "Searchbar"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_completions_are_readable_at_360_px(page: SearchPage, scheme: str) -> None:
    """On the narrowest phone long names are cut with an ellipsis, not the page, and contrast meets WCAG AA."""
    page.emulate(width_px=360, scheme=scheme)
    type_and_wait(page)
    page.input.send_keys(Keys.ARROW_DOWN)
    assert page.browser.execute_script("return document.scrollingElement.scrollWidth") <= 360
    assert page.browser.execute_script(LOW_CONTRAST) == []
