"""The page in a browser: filters, layers, slider, keyboard, address, sorting, theme, printing, axe."""

import json
from urllib.parse import quote

import pytest
from browsers import SCHEMES, WIDTHS, chromium, needs_browser, require_accessible, set_scheme, set_width
from report_case import EVIL, write_case, write_odd_case

from vindr_det.report.build import write_report
from vindr_det.report.request import ReportRequest

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    out = folder / "report.html"
    write_report(ReportRequest(str(out), bootstrap=0, workers=1, **write_case(folder)))
    return out.as_uri()


@pytest.fixture(scope="module")
def odd_page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("odd")
    out = folder / "report.html"
    write_report(ReportRequest(str(out), bootstrap=0, workers=1, score=0.333, **write_odd_case(folder)))
    return out.as_uri()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def browser(driver, page):
    """The page as it opens; at the end nothing may have been logged."""
    set_width(driver, 1440)
    _open(driver, page)
    yield driver
    assert not driver.get_log("browser")


def _open(driver, address: str) -> None:
    driver.get("about:blank")
    driver.get(address)


def listed(browser) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('#list b')].map(node => node.textContent)"
    )


def text(browser, selector: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).textContent", selector)


def lines(browser) -> list[str]:
    """The classes of the boxes that are drawn."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#picture .box')]"
        ".map(node => node.getAttribute('class').slice(9))"
    )


def choose(browser, control: str, value: str) -> None:
    browser.execute_script(
        "const node = document.getElementById(arguments[0]); node.value = arguments[1];"
        "node.dispatchEvent(new Event('input', {bubbles: true}))", control, value)


def press(browser, selector: str, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.execute_script("document.querySelector(arguments[0]).focus()", selector)
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


@pytest.mark.parametrize("filters, expected", [
    ({}, {"a1", "b1", "c1", "d1", "e1", EVIL}),
    ({"finding": "3"}, {"a1", EVIL}),
    ({"outcome": "missed"}, {"b1"}),
    ({"finding": "0", "outcome": "missed"}, set()),
    ({"outcome": "fp"}, {"a1", "d1"}),
    ({"outcome": "normal-fp"}, {"d1"}),
    ({"outcome": "right"}, {"c1", "e1", EVIL}),
    ({"kind": "normal"}, {"d1", "e1"}),
    ({"search": "<!--"}, {EVIL}),
    ({"score": "0.45", "outcome": "missed"}, {"b1", "c1"}),
    ({"score": "0.45", "outcome": "fp"}, {"d1"}),
    ({"score": "0", "outcome": "fp"}, {"a1", "b1", "d1"}),
])
def test_filters(browser, filters, expected):
    for control, value in filters.items():
        choose(browser, control, value)
    assert set(listed(browser)) == expected
    assert text(browser, "#count") == f"{len(expected)} of 6 images"


def test_the_slider_and_the_layers_change_what_is_drawn(browser, page):
    _open(browser, f"{page}#case=a1")
    assert lines(browser) == ["tp", "fp", "detected"]
    choose(browser, "score", "0.5")
    assert lines(browser) == ["tp", "detected"]
    choose(browser, "score", "0.95")
    assert lines(browser) == ["missed"] and "Missed: Cardiomegaly." in text(browser, "#case-text")
    choose(browser, "score", "0.5")
    press(browser, "#picture", "t")
    assert lines(browser) == ["tp"]
    press(browser, "#picture", "r")
    assert lines(browser) == ["tp", "reader", "reader", "reader"]
    press(browser, "#picture", "p", "r", "t")
    assert lines(browser) == ["detected"]
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#box-rows tr')].map(row => row.innerText)"
    )
    assert len(rows) == 1 and rows[0].split("\t")[1:] == ["true boxes", "", "detected"]


def test_keys(browser, page):
    from selenium.webdriver.common.keys import Keys

    first, second, *_, last = listed(browser)
    assert text(browser, "#case-title") == first
    press(browser, "#picture", "j")
    assert text(browser, "#case-title") == second
    press(browser, "#picture", "k", "k")
    assert text(browser, "#case-title") == first
    press(browser, "#list", Keys.END)
    assert text(browser, "#case-title") == last
    press(browser, "#list", Keys.ARROW_UP, Keys.HOME, Keys.ARROW_DOWN)
    assert text(browser, "#case-title") == second
    before = browser.execute_script("return document.querySelector('#picture').getAttribute('viewBox')")
    press(browser, "#picture", "+", Keys.ARROW_RIGHT)
    assert (
        browser.execute_script("return document.querySelector('#picture').getAttribute('viewBox')") != before
    )
    press(browser, "#picture", "0")
    assert (
        browser.execute_script("return document.querySelector('#picture').getAttribute('viewBox')") == before
    )
    press(browser, "#picture", "i")
    assert (
        float(browser.execute_script("return document.querySelector('#tone feFuncR').getAttribute('slope')"))
        < 0
    )
    press(browser, "#search", "j")  # a letter that is typed is no key
    assert browser.execute_script("return document.querySelector('#search').value") == "j"
    choose(browser, "search", "")
    press(browser, "#next", "?")
    assert browser.execute_script("return document.querySelector('#help').open")
    press(browser, "#help-close", Keys.ENTER)
    assert not browser.execute_script("return document.querySelector('#help').open")


def test_an_address_is_a_case(browser, page):
    _open(browser, f"{page}#case={quote(EVIL)}&score=0.5&layers=predictions")
    assert text(browser, "#case-title") == EVIL and text(browser, "#score-text") == "0.50"
    assert lines(browser) == ["tp"]
    _open(browser, f"{page}#case=b1&outcome=missed&finding=Nodule%2FMass")
    assert listed(browser) == ["b1"]
    browser.find_element("id", "filters").find_element("css selector", "[type=reset]").click()
    press(browser, "#picture", "j")
    address = browser.current_url
    title = text(browser, "#case-title")
    _open(browser, address)
    assert text(browser, "#case-title") == title and "case=" in address
    _open(browser, f"{page}#case=nobody")
    assert "nobody is not among them" in text(browser, "#count")


def test_a_picture_is_where_its_boxes_are(browser, page):
    _open(browser, f"{page}#case=a1")
    image, box = browser.execute_script(
        "return ['image', '.line-tp'].map(name => {const at = document.querySelector('#picture ' + name)"
        ".getBoundingClientRect(); return [at.left, at.top, at.width, at.height]})")
    left, top = (box[0] - image[0]) / image[2], (box[1] - image[1]) / image[3]
    assert left == pytest.approx(20 / 160, abs=0.02) and top == pytest.approx(100 / 200, abs=0.02)
    assert image[2] / image[3] == pytest.approx(160 / 200, rel=0.01)
    natural = browser.execute_async_script(
        "const done = arguments[0], probe = new Image();"
        "probe.onload = () => done([probe.width, probe.height]);"
        "probe.src = document.querySelector('#picture image').getAttribute('href')"
    )
    assert natural == [80, 100]


def test_tables_are_sorted_by_keyboard(browser):
    from selenium.webdriver.common.keys import Keys

    def column():
        return browser.execute_script("return [...document.querySelectorAll('#classes table tbody tr')]"
                                      ".map(row => Number(row.cells[1].dataset.order))")

    assert column() == [1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 2]
    press(browser, "#classes th:nth-child(2) button", Keys.ENTER)
    assert column() == sorted(column(), reverse=True)
    press(browser, "#classes th:nth-child(2) button", Keys.ENTER)
    assert column() == sorted(column())
    assert (
        browser.execute_script("return document.querySelector('#classes th:nth-child(2)').ariaSort")
        == "ascending"
    )


def test_missing_values_are_sorted_last(browser):
    from selenium.webdriver.common.keys import Keys

    press(browser, "#classes th:nth-child(4) button", Keys.ENTER)
    texts = browser.execute_script("return [...document.querySelectorAll('#classes table tbody tr')]"
                                   ".map(row => row.cells[3].textContent)")
    measured = [float(text) for text in texts if text != "–"]
    assert measured == sorted(measured, reverse=True) and len(measured) < 15
    assert set(texts[len(measured):]) == {"–"}


def test_charts_have_a_table_and_lines_that_can_be_hidden(browser):
    count = "return document.querySelectorAll('#curves .chart:first-child polyline').length"
    before = browser.execute_script(count)
    press(browser, "#curves .chart:first-child .legend button", " ")
    assert browser.execute_script(count) == before - 1
    browser.find_element("css selector", "#curves .chart:first-child summary").click()
    assert (
        browser.execute_script(
            "return document.querySelectorAll('#curves .chart:first-child tbody tr').length"
        )
        > 5
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(browser, page, width, scheme):
    set_width(browser, width)
    set_scheme(browser, scheme)
    _open(browser, page)
    require_accessible(browser)
    set_scheme(browser)


def test_the_theme_is_chosen_by_a_button_and_printed_light(browser):
    def ground():
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = ground()
    browser.find_element("id", "theme").click()
    assert ground() != light
    assert len(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]) > 10_000
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    browser.find_element("id", "theme").click()
    assert ground() == light


def test_nothing_of_the_page_runs_but_its_own_script(browser):
    """The policy lets no other script run, nor anything be loaded."""
    browser.execute_script("document.body.append(Object.assign(document.createElement('script'), "
                           "{textContent: 'window.strange = 1'}))")
    assert browser.execute_script("return window.strange") is None
    (refused,) = browser.get_log("browser")
    assert "Content Security Policy" in refused["message"]


def options(browser) -> dict[str, str]:
    """Image id -> what the list says of it."""
    return dict(browser.execute_script(
        "return [...document.querySelectorAll('#list [role=option]')]"
        ".map(node => [node.querySelector('b').textContent, node.querySelector('span').textContent])"))


def test_what_nobody_read_never_looks_normal(browser, odd_page):
    _open(browser, odd_page)
    assert options(browser) == {
        "e1": "not read · annotated as normal",
        "d1": "no prediction · annotated as normal · flagged",  # as a picture this small is
        "c1": "abnormal · TP 1 · FP 100+ · FN 0", "b1": "abnormal · TP 1 · FP 0 · FN 1 · no picture",
        "a1": "abnormal · TP 1 · FP 1 · FN 0"}
    for outcome, expected in {"right": [], "tp": ["a1", "b1", "c1"], "missed": ["b1"], "not read": ["e1"],
                              "no prediction": ["d1"]}.items():
        choose(browser, "outcome", outcome)
        assert sorted(listed(browser)) == expected, outcome
    _open(browser, f"{odd_page}#case=e1")
    assert text(browser, "#case-text") == "This image was not read: nothing is known of it."
    assert text(browser, "#case-status") == "Not read: no pixels."
    _open(browser, f"{odd_page}#case=d1")
    assert text(browser, "#case-text").startswith("No prediction: ")
    _open(browser, f"{odd_page}#case=b1")
    assert "the file has 400 x 100 pixels, the predicted image 160 x 200" in text(browser, "#case-status")
    assert not browser.execute_script("return document.querySelector('#picture image').hasAttribute('href')")
    assert lines(browser) == ["tp", "detected", "missed"]


def test_a_box_that_is_not_in_the_page_detects_too(browser, odd_page):
    _open(browser, f"{odd_page}#case=c1")
    assert lines(browser)[-1] == "detected-unseen" and len(lines(browser)) == 101
    assert "Detected by boxes that are not in this page: 1." in text(browser, "#case-text")
    choose(browser, "score", "0.4")
    assert lines(browser)[-1] == "missed"


def test_a_filter_without_a_result_shows_no_case(browser, page):
    _open(browser, f"{page}#case=a1")
    press(browser, "#picture", "+")
    choose(browser, "search", "none is named so")
    assert browser.execute_script(
        "return ['.viewer', '.boxes', '#no-case'].map(name => document.querySelector(name).offsetHeight > 0)"
    ) == [False, False, True]
    assert not text(browser, "#case-title") and not text(browser, "#box-rows")
    require_accessible(browser)
    press(browser, "#list", "t", "m", "i", "0", "j")
    address = browser.current_url
    _open(browser, address)
    assert listed(browser) == [] and text(browser, "#no-case") == "No image passes these filters."
    browser.find_element("css selector", "#filters [type=reset]").click()
    press(browser, "#picture", "j")
    assert lines(browser) and text(browser, "#case-title")


def test_the_score_is_the_one_that_was_asked_for(browser, odd_page):
    from selenium.webdriver.common.keys import Keys

    _open(browser, odd_page)
    assert text(browser, "#score-text") == "0.333" and "0.333" in text(browser, "#confusion")
    press(browser, "#score", Keys.ARROW_RIGHT)
    assert text(browser, "#score-text") == "0.34"
    press(browser, "#score", Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert text(browser, "#score-text") == "0.32"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = browser.execute_script("return document.querySelector('#score-note').offsetHeight > 0")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown and text(browser, "#score-note") == "Boxes with a score of 0.32 or more."


def test_readers_may_have_any_name(browser, odd_page):
    def layers():
        return dict(browser.execute_script("return [...document.querySelectorAll('#layers label')]"
                                           ".map(node => [node.firstChild.value, node.firstChild.checked])"))

    _open(browser, f"{odd_page}#case=a1")
    press(browser, "#picture", "r", "p")
    expected = {"true boxes": True, "predictions": False, "reader R3": True, "reader Smith, J": True,
                "reader predictions": True, "labels": True}
    assert layers() == expected and lines(browser) == ["detected", "reader", "reader", "reader"]
    _open(browser, browser.current_url)
    assert layers() == expected and lines(browser) == ["detected", "reader", "reader", "reader"]
    assert all("predictions (reader)" in text(browser, part) for part in ("#layers", "#box-rows"))
    press(browser, "#picture", "r", "t", "l")
    _open(browser, browser.current_url)
    assert not any(layers().values())


def test_tables_fit_a_telephone(browser, page):
    set_width(browser, 390)
    _open(browser, page)
    wide = browser.execute_script(
        "return [...document.querySelectorAll('.table:not(.wide) .scroll, .boxes .scroll')]"
        ".filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.ariaLabel)")
    assert wide == []


def test_an_image_without_a_row_in_coco_results(browser, tmp_path):
    files = write_case(tmp_path)
    (tmp_path / "S.json").write_text(json.dumps(
        [{"image_id": "a1", "category_id": 3, "bbox": [20, 100, 100, 60], "score": 0.9}]))
    out = tmp_path / "r.html"
    write_report(ReportRequest(str(out), bootstrap=0, workers=1, **{**files, "predictions": str(
        tmp_path / "S.json")}))
    _open(browser, f"{out.as_uri()}#case=e1")
    assert options(browser)["e1"].startswith("normal · no box in the predictions' file")
    assert options(browser)["b1"].startswith("abnormal · FN 2 · no box in the predictions' file")
    assert text(browser, "#case-text").startswith("No box in the predictions' file, which does not tell ")
    choose(browser, "outcome", "no box")
    assert sorted(listed(browser)) == sorted(["b1", "c1", "d1", "e1", EVIL])


def test_an_image_that_cannot_be_read_now_is_flagged(browser, tmp_path):
    """Its row tells that it was predicted without a box; nothing tells that it was read."""
    files, out = write_case(tmp_path), tmp_path / "r.html"
    (tmp_path / "images" / "e1.png").write_bytes(b"no picture")
    write_report(ReportRequest(str(out), bootstrap=0, workers=1, **files))
    _open(browser, f"{out.as_uri()}#case=e1")
    assert options(browser)["e1"] == "normal · TP 0 · FP 0 · FN 0 · flagged · no picture"
    assert text(browser, "#case-status").startswith("No picture: cannot be decoded as PNG. Picture: nothing ")
