"""The review page in a real browser; skipped where there is no Chromium (Debian: chromium and chromium-driver)."""

import hashlib

import cv2
import numpy as np
import pytest
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

from tsdd_d2.data.files import read_json
from tsdd_d2.refinement import apply_vetoes, read_vetoes
from tsdd_d2.review import write_review_page
from tsdd_d2.review.page import run_fingerprint

from ..browser import needs_browser, phone, start_browser, webdriver
from ..refinement.test_rounds import bbui, image, roi

pytestmark = needs_browser

# annotation id -> patient, shift of the manual box of width 20 to the right, scores before and after. Drift rises with
# the shift; id 6 is a pseudo ROI.
REFINED = {1: ("p2", 4, 0.5, 0.6), 2: ("p10", 8, 0.1, 0.9), 3: ("p1", 1, 0.2, 0.25), 4: ("p10", 2, 0.1, 0.3)}
PSEUDO = 6


def rounds():
    images = [image(i, 1 + i % 2, patient_id=patient) for i, (patient, *_) in REFINED.items()]
    images += [image(5, 1), image(PSEUDO, 1, patient_id="p3")]
    manual = [roi(i, i, 1 + i % 2, [10, 10, 20, 20]) for i in (*REFINED, 5)]
    refined = [
        {
            **manual[i - 1],
            "bbox": [10 + shift, 10, 20, 20],
            "manual_bbox": [10, 10, 20, 20],
            "roi_source": "refined",
            "roi_round": 1,
            "roi_score_before": before,
            "roi_score": after,
        }
        for i, (_, shift, before, after) in REFINED.items()
    ]
    pseudo = roi(PSEUDO, PSEUDO, 1, [30, 20, 30, 30], roi_source="pseudo", roi_round=1, roi_score=0.8)
    return [bbui(images, manual), bbui(images, [*refined, manual[4], pseudo])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The images, the page, and what the browser writes."""
    folder = tmp_path_factory.mktemp("review")
    for number in range(1, 7):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((80, 100), 30 * number, np.uint8))
    write_review_page(str(folder / "review.html"), rounds(), "clinic_train", str(folder))
    return folder


@pytest.fixture(scope="module")
def browser(folder):
    browser = start_browser(folder)
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, folder, request):
    """The page as it is opened for the first time: of a run of its own for each test, for decisions are kept by run.

    To clear the storage after each test is not enough: Chromium can do so after the next page has stored something.
    """
    content = (folder / "review.html").read_text()
    run = run_fingerprint(rounds()[-1], "clinic_train")
    test = hashlib.sha256(request.node.name.encode()).hexdigest()[: len(run)]
    own = folder / f"{test}.html"
    assert content.count(f'data-run="{run}"') == 1
    own.write_text(content.replace(f'data-run="{run}"', f'data-run="{test}"'))
    browser.get(f"file://{own}")
    yield browser
    assert browser.get_log("browser") == []  # no error, and nothing that the page may not load


def find(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def shown(page):
    return [int(x.get_attribute("data-id")) for x in page.find_elements(By.CSS_SELECTOR, ".card:not([hidden])")]


def set_value(page, control, value):
    script = (
        "arguments[0].value = arguments[1]; for (const e of ['input', 'change']) arguments[0].dispatchEvent(new Event(e))"
    )
    page.execute_script(script, find(page, f"#{control}"), value)


def press(page, *keys):
    webdriver.ActionChains(page).send_keys(*keys).perform()


def decisions(page):
    cards = page.find_elements(By.CSS_SELECTOR, ".card")
    return {int(x.get_attribute("data-id")): d for x in cards if (d := x.get_attribute("data-decision"))}


def status(page):
    return find(page, "#status").text


@pytest.mark.parametrize(
    "controls, expected",
    [
        ({}, [2, 1, 4, 3]),  # by drift
        ({"sort": "gain"}, [3, 1, 4, 2]),  # 0.05, 0.1, 0.2, 0.8
        ({"sort": "gain-largest"}, [2, 4, 1, 3]),
        ({"sort": "patient"}, [3, 1, 2, 4]),  # p1, p2, p10
        ({"source": "pseudo"}, [PSEUDO]),
        ({"source": ""}, [2, 1, 4, 3, PSEUDO]),  # what has no drift comes last
        ({"patient": "p10"}, [2, 4]),
        ({"patient": "p"}, [2, 1, 4, 3]),
        ({"patient": "p1"}, [3]),
        ({"min-drift": "0.2"}, [2, 1]),  # 2/22, 4/22, 8/24, 16/28 for the shifts 1, 2, 4, 8
        ({"max-gain": "0.15", "sort": "patient"}, [3, 1]),
        ({"class": "malignant"}, [1, 3]),
        ({"min-drift": "0.9"}, []),
    ],
)
def test_sorts_and_filters(page, controls, expected):
    for control, value in controls.items():
        set_value(page, control, value)
    assert shown(page) == expected
    assert status(page).endswith(f"{len(expected)} shown")


def test_keys_do_not_decide_on_a_card_that_a_filter_hides(page):
    press(page, "j")
    set_value(page, "source", "pseudo")
    find(page, "h1").click()
    press(page, "v")
    assert decisions(page) == {}
    press(page, "j", "v")  # the first that is shown
    assert decisions(page) == {PSEUDO: "veto"}


def test_two_tabs_of_the_page_keep_the_decisions_of_both(page):
    first = page.current_window_handle
    address = page.current_url
    page.switch_to.new_window("tab")
    page.get(address)
    find(page, "#roi-1 [data-decide=veto]").click()
    second = page.current_window_handle
    page.switch_to.window(first)
    WebDriverWait(page, 10, 0.1).until(lambda _: decisions(page) == {1: "veto"})  # the browser tells the other tabs
    find(page, "#roi-2 [data-decide=veto]").click()
    page.switch_to.window(second)
    WebDriverWait(page, 10, 0.1).until(lambda _: decisions(page) == {1: "veto", 2: "veto"})
    page.close()
    page.switch_to.window(first)


def test_a_veto_survives_a_reload_and_the_training_accepts_the_download(page, folder):
    find(page, "#roi-2 [data-decide=veto]").click()
    find(page, "#roi-1 [data-decide=accept]").click()
    set_value(page, "source", "pseudo")
    find(page, f"#roi-{PSEUDO} [data-decide=veto]").click()
    page.refresh()
    assert decisions(page) == {1: "accept", 2: "veto", PSEUDO: "veto"}
    assert find(page, "#roi-2 [data-decide=veto]").get_attribute("aria-pressed") == "true"
    assert status(page) == "2 of 4 reviewed, 1 vetoed; 4 shown"
    set_value(page, "decision", "open")
    assert shown(page) == [4, 3]

    find(page, "#download").click()
    file = WebDriverWait(page, 10, 0.1).until(lambda _: next((folder / "downloads").glob("vetoes_*.json"), None))
    last = rounds()[-1]
    vetoes = read_vetoes(str(file), "clinic_train")
    assert [(x["annotation_id"], x["roi_source"]) for x in vetoes] == [(2, "refined"), (PSEUDO, "pseudo")]
    assert file.name == f"vetoes_clinic_train_{read_json(file)['run']}.json"
    result = apply_vetoes(last, vetoes)
    assert result["annotations"][1] == roi(2, 2, 1, [10, 10, 20, 20], roi_source="manual", locked=True)
    assert [x["id"] for x in result["images"] if x.get("roi_veto")] == [PSEUDO]


def test_keyboard(page):
    def focus():
        return page.switch_to.active_element.get_attribute("id")

    press(page, "j", "a", "v", "v")  # the order is 2, 1, 4, 3
    assert decisions(page) == {2: "accept", 1: "veto", 4: "veto"} and focus() == "roi-3"
    press(page, "k", "k")
    assert focus() == "roi-1"
    press(page, "a", "u", "u")
    decided = {2: "accept", 1: "veto"}
    assert decisions(page) == decided and focus() == "roi-4"
    find(page, "#patient").send_keys("va")  # typing decides nothing
    assert decisions(page) == decided and shown(page) == []
    set_value(page, "patient", "")
    find(page, "#shortcuts").click()
    press(page, "j", "a")
    assert decisions(page) == decided


def test_enlarged(page):
    find(page, "#roi-1 .enlarge").click()
    viewer = find(page, "#viewer")
    assert viewer.is_displayed() and find(page, "#viewer h2").text == "1.png"
    small, large = (find(page, f"{x} svg").rect["width"] for x in ("#roi-1", "#viewer"))
    assert large > 1.5 * small
    boxes = find(page, "#viewer .boxes")
    manual, refined = (find(page, f"#viewer rect.{kind}").rect for kind in ("manual", "roi"))
    # the image of 100 x 80 pixels is as high as its frame: both boxes are 20 wide, and the new one 4 further right
    scale = find(page, "#viewer svg").rect["height"] / 80
    assert refined["x"] - manual["x"] == pytest.approx(4 * scale, abs=1)
    assert manual["width"] == pytest.approx(20 * scale, abs=3)
    press(page, "b")
    assert not boxes.is_displayed()
    press(page, "b", "v")
    assert find(page, "#viewer h2").text == "4.png"  # the next one
    find(page, "#viewer [data-decide=accept]").click()
    press(page, Keys.ESCAPE)
    assert decisions(page) == {1: "veto", 4: "accept"} and not viewer.is_displayed()
    assert page.switch_to.active_element.get_attribute("id") == "roi-3"


def test_every_control_has_a_name(page):
    controls = page.find_elements(By.CSS_SELECTOR, "select, input, button, progress, summary")
    visible = [x for x in controls if x.is_displayed()]
    assert len(visible) > 20 and all(x.accessible_name for x in visible)


def test_a_phone_scrolls_in_one_direction(page):
    phone(page, 360)
    try:
        assert page.execute_script("return document.scrollingElement.scrollWidth") == 360
        assert find(page, "#roi-1 [data-decide=veto]").rect["height"] >= 44
        find(page, "#roi-1 .enlarge").click()
        assert page.execute_script("const x = arguments[0]; return x.scrollWidth <= x.clientWidth", find(page, "#viewer"))
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
