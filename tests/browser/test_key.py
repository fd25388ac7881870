"""The page in front of a gateway that asks for an API key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, Keys

from .conftest import StubGateway
from .test_page import LOW_CONTRAST, SearchPage

KEY = "sb_right"


@pytest.fixture
def page(browser: Chrome, base_url: str, stub: StubGateway) -> Iterator[SearchPage]:
    stub.key = KEY
    opened = SearchPage(browser, base_url)
    opened.emulate()
    opened.open()
    yield opened
    browser.execute_script("sessionStorage.clear()")


def said(page: SearchPage, text: str) -> None:
    page.until(lambda: page.one("#message").text == text, text)


def test_a_key_is_asked_for_once(page: SearchPage, stub: StubGateway) -> None:
    """Refused, the page asks for a key; a wrong one is said to be; the right one is used until the tab is closed."""
    page.search("halo")
    said(page, "This server asks for an API key.")
    field = page.one("#key")
    field.send_keys("sb_wrong/", Keys.ENTER)
    said(page, "This server does not know that API key.")
    field.send_keys(f" {KEY} ", Keys.ENTER)
    page.until_titles("halo")
    assert not page.one("#key-form").is_displayed()
    page.browser.refresh()
    page.until_titles("halo")
    page.one("label:has([value=album])").click()
    page.until(lambda: stub.searches[-1].get("filters"), "a filtered search, which is a POST")
    page.until_titles("halo")
    page.search("bil")
    page.until(lambda: stub.suggests == ["bil"], "completions with the key")
    assert KEY not in page.browser.current_url


def test_the_form_is_not_shown_for_other_refusals(page: SearchPage, stub: StubGateway) -> None:
    """Nobody is asked for a key that would not help."""
    stub.key = ""
    page.search("down")
    page.until(lambda: page.one("#message").text.startswith("Search is away"), "the message")
    assert not page.one("#key-form").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_is_readable_at_360_px(page: SearchPage, scheme: str) -> None:
    """On the narrowest phone nothing is cut off sideways, and all text meets WCAG AA contrast."""
    page.emulate(width_px=360, scheme=scheme)
    page.search("halo")
    said(page, "This server asks for an API key.")
    assert page.one("#key-form").is_displayed()
    assert page.browser.execute_script("return document.scrollingElement.scrollWidth") <= 360
    assert page.browser.execute_script(LOW_CONTRAST) == []
