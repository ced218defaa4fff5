"""The report on a phone and on a desk; skipped where there is no Chromium (Debian: chromium and chromium-driver)."""

import pytest

from ..browser import needs_browser, phone, start_browser
from .conftest import small_experiment
from .test_page import page_of

pytestmark = needs_browser

WIDTH = "return document.scrollingElement.scrollWidth"
# (scrolls, stays inside the page) of each box
BOXES = """return [...document.querySelectorAll('.scroll')].map(
    x => [x.scrollWidth > x.clientWidth, x.getBoundingClientRect().right <= window.innerWidth])"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = start_browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of a page with tables, curves and a wide figure."""
    folder = tmp_path_factory.mktemp("report")
    page_of(folder, small_experiment(), names=("table1", "roc", "fig9"), wide=True)
    return f"file://{folder / 'report.html'}"


@pytest.fixture
def page(browser, url):
    yield browser, url
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(colour):
    red, green, blue = (int(x) for x in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_phone_scrolls_in_one_direction(page):
    browser, url = page
    phone(browser, 390)
    browser.get(url)
    assert browser.execute_script(WIDTH) == 390
    boxes = browser.execute_script(BOXES)
    tables = browser.execute_script("return document.querySelectorAll('table').length")
    assert len(boxes) == tables + 1 and all(inside for _, inside in boxes)  # and the wide figure
    assert sum(scrolls for scrolls, _ in boxes) > 1  # what fits does not
    images = browser.execute_script("return [...document.images].map(x => [x.naturalWidth > 0, x.alt > ''])")
    assert images == [[True, True]] * 3
    assert browser.get_log("browser") == []  # no error, and nothing that the page may not load


def test_the_first_column_stays_in_sight(page):
    browser, url = page
    phone(browser, 390)
    browser.get(url)
    place = browser.execute_script(
        """const box = document.querySelector('.scroll'), cell = box.querySelector('tbody th');
        box.scrollLeft = 10000;
        return cell.getBoundingClientRect().left - box.getBoundingClientRect().left"""
    )
    assert 0 <= place < 5


def test_text_is_dark_on_light_whatever_the_device_prefers(page):
    browser, url = page
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    browser.get(url)
    text, ground = browser.execute_script("const x = getComputedStyle(document.body); return [x.color, x.backgroundColor]")
    assert luminance(text) < 60 and luminance(ground) > 240


def test_on_a_desk_all_columns_but_the_widest_tables_fit(page):
    browser, url = page
    browser.set_window_size(1200, 900)
    browser.get(url)
    assert browser.execute_script(WIDTH) <= 1200
    figure = browser.execute_script("return document.querySelector('figure img').getBoundingClientRect().width")
    assert figure < 700
