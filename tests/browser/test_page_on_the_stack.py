"""The page against the real gateway: what a listener sees is what the stack answers."""

from __future__ import annotations

from selenium.webdriver import Chrome

from tests.browser.test_page import SearchPage
from tests.conftest import Serving


def test_a_misspelt_query_shows_the_corrected_results(browser: Chrome, serving: Serving):
    """Typing finds the song, says what it searched for, and logs no error."""
    page = SearchPage(browser, serving.url)
    page.open()
    page.console()
    page.search("bilie jean micheal jackson")
    page.until(lambda: "Billie Jean" in page.titles(), "the song among the hits")
    assert "billie jean michael jackson" in page.one("main").text
    assert page.console() == []
