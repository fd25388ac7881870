"""The search page by itself, in a real browser, against canned answers of the HTTP contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from .conftest import BILLIE_JEAN, HITS, INJECTION, StubGateway

WAIT_S = 20.0
MISSPELT = "bilie jean micheal jackson"

# Text nodes whose contrast with what is painted behind them is below WCAG AA (4.5, or 3 for large text).
LOW_CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = (e) => { for (; e; e = e.parentElement) {
  const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
return [...document.body.querySelectorAll('*')].filter((e) =>
  e.checkVisibility() && !e.closest('svg') && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).flatMap((e) => {
  const style = getComputedStyle(e), a = light(parse(style.color)), b = light(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  return ratio < (large ? 3 : 4.5) ? [`${e.className || e.tagName}: ${e.textContent.trim()} ${ratio.toFixed(2)}`] : []; });
"""


class SearchPage:
    """The page as a listener sees it."""

    def __init__(self, browser: Chrome, base_url: str) -> None:
        self.browser = browser
        self.base_url = base_url

    def open(self, path: str = "/") -> None:
        """Loads the page and waits for its scripts: on a busy machine ChromeDriver comes back before they have run."""
        self.browser.get(self.base_url + path)
        loaded = f"return document.readyState === 'complete' && location.href.startsWith('{self.base_url}')"
        self.until(lambda: self.browser.execute_script(loaded), "the page's scripts")

    def one(self, css: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    @property
    def input(self) -> WebElement:
        return self.one("#query")

    @property
    def active(self) -> str | None:
        return self.input.get_attribute("aria-activedescendant")

    def titles(self) -> list[str]:
        return [title.text for title in self.browser.find_elements(By.CSS_SELECTOR, ".hit-title")]

    def console(self) -> list[dict[str, Any]]:
        """What the page logged since the last look."""
        lines: list[dict[str, Any]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]  # selenium has no types here
        return lines

    def search(self, query: str) -> None:
        self.input.clear()
        self.input.send_keys(query)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits for the condition; elements that are replaced while it looks count as not yet."""
        ignored = [StaleElementReferenceException]
        WebDriverWait(self.browser, WAIT_S, ignored_exceptions=ignored).until(lambda _: condition(), what)

    def until_titles(self, *expected: str) -> None:
        self.until(lambda: self.titles() == list(expected), f"hits {expected}")

    def emulate(self, *, width_px: int = 1280, scheme: str = "light") -> None:
        metrics = {"width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


ALL_TITLES = tuple(found["title"] for found in HITS)


@pytest.fixture
def page(browser: Chrome, base_url: str) -> Iterator[SearchPage]:
    search_page = SearchPage(browser, base_url)
    search_page.emulate()
    search_page.open()
    search_page.console()  # what earlier tests left
    yield search_page
    browser.get("about:blank")


def test_typing_answers_without_enter(page: SearchPage, stub: StubGateway) -> None:
    """Typing alone shows the hits with all they carry, and one request does not go out for every key."""
    page.search(MISSPELT)
    page.until_titles(*ALL_TITLES)
    assert stub.searches[-1] == {"query": MISSPELT, "limit": 20}
    assert len(stub.searches) < len(MISSPELT)
    first = page.one(".hit")
    assert first.find_element(By.CSS_SELECTOR, ".hit-line").text == "Track · Michael Jackson · Thriller · 1982"
    assert [chip.text for chip in first.find_elements(By.CSS_SELECTOR, ".chip")] == BILLIE_JEAN["matched_by"]
    assert page.one("#spelling").text == "Showing results for billie jean michael jackson"
    assert page.input.get_attribute("aria-expanded") == "true"


def test_did_you_mean_searches_the_suggestion(page: SearchPage, stub: StubGateway) -> None:
    """A click on the suggestion searches for it and puts it into the bar."""
    page.search("smels like teen sprit")
    page.until(lambda: page.one("#spelling").text == "Did you mean smells like teen spirit?", "the suggestion")
    page.one(".suggestion").click()
    page.until_titles("smells like teen spirit")
    assert page.input.get_attribute("value") == "smells like teen spirit"
    assert not page.one("#spelling").is_displayed()
    assert stub.searches[-1]["query"] == "smells like teen spirit"


@pytest.mark.parametrize(
    "cancellable", [pytest.param(True, id="request-cancelled"), pytest.param(False, id="request-cannot-be-cancelled")]
)
def test_an_older_answer_never_replaces_a_newer_one(page: SearchPage, stub: StubGateway, cancellable: bool) -> None:
    """The answer to an overtaken query stays off the page, even when it arrives whole after the newer one."""
    if not cancellable:
        page.browser.execute_script("const send = fetch; fetch = (to, {signal, ...rest} = {}) => send(to, rest);")
    page.search("slow")
    page.until(lambda: [body["query"] for body in stub.searches] == ["slow"], "the slow query under way")
    page.search("quick")
    page.until_titles("quick")
    stub.release_slow.set()
    statuses = (
        "return performance.getEntriesByType('resource')"
        ".filter((e) => /search.q=slow/.test(e.name)).map((e) => e.responseStatus)"
    )
    expected = [0 if cancellable else 200]
    page.until(lambda: page.browser.execute_script(statuses) == expected, "the slow query cancelled, or answered last")
    page.browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.titles() == ["quick"]
    assert "1 overtaken by typing left out" in str(page.one("#sample").get_attribute("textContent"))


def test_keyboard_path(page: SearchPage) -> None:
    """Every step from the bar to a hit's details and back works from the keyboard, and is told to a screen reader."""
    page.search(MISSPELT)
    page.until_titles(*ALL_TITLES)
    page.input.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.active == "hit-1"
    page.input.send_keys(Keys.ARROW_UP)
    assert page.active == "hit-0"
    selected = page.browser.find_elements(By.CSS_SELECTOR, "[aria-selected=true]")
    assert [option.get_attribute("id") for option in selected] == ["hit-0"]
    assert page.one("#hit-0").accessible_name == "Billie Jean Track · Michael Jackson · Thriller · 1982"
    page.input.send_keys(Keys.ENTER)
    details = page.one("#hit-0 .details")
    assert details.is_displayed()
    assert [name.text for name in details.find_elements(By.TAG_NAME, "dt")] == [
        "ID", "Kind", "Title", "Artist", "Album", "Year", "Score", "Matched by",
    ]  # fmt: skip
    assert [value.text for value in details.find_elements(By.TAG_NAME, "dd")][-2:] == ["0.9312", "title, artist, correction"]
    assert page.one("#hit-0").get_attribute("aria-describedby") == "hit-0-details"
    page.input.send_keys(Keys.ENTER)
    assert not details.is_displayed()
    page.input.send_keys(Keys.ARROW_UP)
    assert page.active is None
    page.input.send_keys(Keys.ESCAPE)
    assert page.input.get_attribute("value") == ""
    assert page.titles() == []
    assert page.one("#welcome").is_displayed()
    page.browser.execute_script("document.activeElement.blur()")
    ActionChains(page.browser).send_keys("/").perform()
    assert page.browser.switch_to.active_element == page.input
    assert page.input.get_attribute("value") == ""


def test_a_click_opens_a_hit(page: SearchPage) -> None:
    """The mouse reaches a hit's details as the keyboard does."""
    page.search(MISSPELT)
    page.until_titles(*ALL_TITLES)
    page.one("#hit-2").click()
    assert page.one("#hit-2 .details").is_displayed()
    assert page.active == "hit-2"


def test_degraded_part_is_named(page: SearchPage) -> None:
    """A part that is away is named in words, beside the results that are left."""
    page.search("spelling away")
    page.until(lambda: page.one("#notices").text == "Spelling is away: results are for what you typed.", "the notice")
    assert page.titles() == list(ALL_TITLES)
    assert not page.one("#spelling").is_displayed()
    page.search("back again")
    page.until(lambda: not page.one("#notices").is_displayed(), "no notice")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param("busy", "Too many searches right now.", id="429"),
        pytest.param("down", "Search is away for a moment.", id="503"),
        pytest.param("late", "The answer took too long.", id="504"),
        pytest.param("nothing", "Nothing found for “nothing”.", id="no-hits"),
    ],
)
def test_refusals_are_said_and_typing_goes_on(page: SearchPage, query: str, said: str) -> None:
    """A refusal clears the hits and says why; the next query is answered as if nothing had happened."""
    page.search("before")
    page.until_titles("before")
    page.search(query)
    page.until(lambda: page.one("#message").text.startswith(said), said)
    assert page.titles() == []
    page.search("after")
    page.until_titles("after")
    assert not page.one("#message").is_displayed()


def test_unreachable_gateway_is_said(page: SearchPage, stub: StubGateway) -> None:
    """A connection that fails is a calm message too."""
    stub.go_away()
    page.search("anyone there")
    page.until(lambda: page.one("#message").text.startswith("The search server cannot be reached."), "the message")


def test_markup_in_a_field_is_text(page: SearchPage) -> None:
    """A title that holds a script element is shown letter by letter and makes no element."""
    page.search("injection")
    page.until_titles(INJECTION)
    page.one(".hit").click()
    assert INJECTION in page.one(".details").text
    assert page.browser.find_elements(By.CSS_SELECTOR, ".hits script, .hits img") == []
    assert page.browser.title == "Searchbar"


def test_kind_filter_asks_for_that_kind_only(page: SearchPage, stub: StubGateway) -> None:
    """A kind goes into the filters of a POST, All is a plain search again."""
    page.search("queen")
    page.until_titles("queen")
    page.one("label:has([value=album])").click()
    filtered = {"query": "queen", "limit": 20, "filters": {"kind": ["album"]}}
    page.until(lambda: stub.searches[-1] == filtered, "a filtered search")
    page.until(lambda: page.browser.current_url.endswith("/?q=queen&kind=album"), "the kind in the address")
    page.browser.refresh()
    page.until(lambda: stub.searches.count(filtered) == 2, "the same search after a reload")
    page.one("label:has([value=''])").click()
    page.until(lambda: stub.searches[-1] == {"query": "queen", "limit": 20}, "a plain search")


def test_the_address_keeps_the_query(page: SearchPage) -> None:
    """The address follows the query without new history entries, and opening it shows the same hits."""
    entries = page.browser.execute_script("return history.length")
    page.one(".example").click()
    page.until(lambda: page.browser.current_url.endswith("/?q=bilie+jean+micheal+jackson"), "the address")
    assert page.browser.execute_script("return history.length") == entries
    page.browser.refresh()
    page.until_titles(*ALL_TITLES)
    assert page.input.get_attribute("value") == MISSPELT


@pytest.mark.parametrize(
    ("query", "index_after_models"),
    [pytest.param(MISSPELT, True, id="stages-in-sequence"), pytest.param("all at once", False, id="stages-that-overlap")],
)
def test_timings_are_drawn(page: SearchPage, query: str, index_after_models: bool) -> None:
    """The index is drawn behind the slower model only where the total has room for both; the browser's figures are named."""
    page.search(query)
    page.until_titles(*ALL_TITLES)
    stages = page.browser.find_elements(By.CSS_SELECTOR, ".stage")
    assert [stage.text.split()[0] for stage in stages] == ["speller", "embedder", "index"]
    assert stages[0].text.split()[1:] == ["8.4", "ms"]
    speller, _, index = (stage.find_element(By.CSS_SELECTOR, ".bar-fill").rect for stage in stages)
    starts_at = speller["x"] + speller["width"] if index_after_models else speller["x"]
    assert index["x"] == pytest.approx(starts_at, abs=2)
    assert "Measured in browser" in page.one("#readout").text
    assert page.one("#p90").text.endswith(" ms")
    assert page.browser.find_elements(By.CSS_SELECTOR, "#sparkline .spark")


def test_nothing_leaves_the_origin_and_the_console_is_clean(page: SearchPage) -> None:
    """Under a strict policy the page fetches from its own origin alone and logs nothing."""
    page.search(MISSPELT)
    page.until_titles(*ALL_TITLES)
    fetched = page.browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any("/v1/search" in name for name in fetched)
    assert [name for name in fetched if not name.startswith(page.base_url)] == []
    assert page.console() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("query", ["", MISSPELT, "smels like teen sprit", "spelling away", "down"])
def test_readable_at_360_px(page: SearchPage, scheme: str, query: str) -> None:
    """On the narrowest phone nothing is cut off sideways, and all text meets WCAG AA contrast in both colour schemes."""
    page.emulate(width_px=360, scheme=scheme)
    if query:
        page.search(query)
        page.until(lambda: page.titles() or page.one("#message").text, "an answer")
        page.input.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    assert page.browser.execute_script("return document.scrollingElement.scrollWidth") <= 360
    assert page.browser.execute_script(LOW_CONTRAST) == []
