"""The service's page in a browser: an image is dropped, its boxes, maps and JSON are seen."""

import itertools
import json

import pytest
from browsers import SCHEMES, WIDTHS, chromium, needs_browser, require_accessible, set_scheme, set_width
from serve_case import SECRET, STUDY, phantom_dicom, serving

pytestmark = needs_browser
pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A phantom with the name of a patient in the file's name and in its header."""
    path = tmp_path_factory.mktemp("own") / f"{SECRET}.dcm"
    path.write_bytes(phantom_dicom(tmp_path_factory.mktemp("raw")))
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def address():
    with serving() as (host, port):
        yield f"http://{host}:{port}/"


@pytest.fixture
def browser(driver, address):
    """The page as it opens; at the end nothing may have been logged."""
    set_width(driver, 1440)
    driver.get(address)
    yield driver
    assert not driver.get_log("browser")


def wait(browser, condition: str, seconds: float = 30) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, seconds, 0.05).until(lambda _: browser.execute_script(f"return {condition}"))


def upload(browser, path) -> None:
    """As a person chooses a file."""
    wait(browser, "about.version !== undefined")
    browser.find_element("id", "file").send_keys(str(path))
    wait(browser, "!document.getElementById('answer').hidden || !document.getElementById('problem').hidden")


def text(browser, name: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


def slide(browser, value: float) -> None:
    browser.execute_script("const node = document.getElementById('score'); node.value = arguments[0];"
                           "node.dispatchEvent(new Event('input'))", str(value))


def drawn(browser) -> int:
    return browser.execute_script("return document.querySelectorAll('#film rect').length")


def test_an_image_is_shown_with_what_the_service_answers(browser, image):
    upload(browser, image)
    report = json.loads(text(browser, "json"))
    assert report["boxes"] and "Done: " in text(browser, "state") and "flagged" in text(browser, "state")
    assert "synthetic images" in text(browser, "reason") and "synthetic images" in text(browser, "notice")
    for score in (0.05, 0.3, 0.9):
        slide(browser, score)
        expected = sum(box["score"] >= score for box in report["boxes"])
        rows = browser.execute_script("return document.querySelectorAll('#boxes tr').length")
        assert drawn(browser) == rows == expected
        assert text(browser, "count").startswith(f"{expected} box")
    slide(browser, 1)
    assert drawn(browser) == 0 and "no statement that the image is normal" in text(browser, "count")
    whole = browser.page_source
    assert SECRET not in whole and STUDY not in whole


def test_boxes_have_the_coordinates_of_the_answer(browser, image):
    upload(browser, image)
    slide(browser, 0.05)
    report = json.loads(text(browser, "json"))
    seen = browser.execute_script(
        "const film = document.getElementById('film');"
        "const shown = film.querySelector('image').getBoundingClientRect();"
        "return [...film.querySelectorAll('rect')].map((node) => { const box = node.getBBox();"
        "return [box.x, box.y, box.x + box.width, box.y + box.height]; })"
        ".concat([[shown.width, shown.height]])")
    *boxes, (width, height) = seen
    assert width / height == pytest.approx(report["width"] / report["height"], rel=0.01)
    for box, corners in zip(report["boxes"], boxes, strict=True):
        assert corners == pytest.approx([box["x_min"], box["y_min"], box["x_max"], box["y_max"]], abs=0.1)


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_boxes_hide_no_other_and_lie_within_the_picture(browser, image, width):
    set_width(browser, width)
    upload(browser, image)
    slide(browser, 0.05)
    *names, film = browser.execute_script(
        "return [...document.querySelectorAll('#film text'), document.querySelector('#film image')]"
        ".map((node) => { const at = node.getBBox();"
        "return [at.x, at.y, at.x + at.width, at.y + at.height]; })")
    assert len(names) > 2 and all(name[0] >= -1 and name[2] <= film[2] + 1 for name in names)
    for name, other in itertools.combinations(names, 2):
        across = min(name[2], other[2]) - max(name[0], other[0])
        down = min(name[3], other[3]) - max(name[1], other[1])
        assert across <= 0 or down <= 0.2 * (name[3] - name[1])


def test_maps_and_boxes_are_layers_by_keyboard(browser, image):
    from selenium.webdriver.common.keys import Keys

    upload(browser, image)
    slide(browser, 0.05)
    count, layers = drawn(browser), "return document.querySelectorAll('#film image').length"
    button = browser.find_element("css selector", "button.map")
    assert browser.execute_script(layers) == 1 and not browser.find_element("id", "bar").is_displayed()
    button.send_keys(Keys.ENTER)
    assert browser.execute_script(layers) == 2 and button.get_attribute("aria-pressed") == "true"
    assert browser.find_element("id", "bar").is_displayed()
    assert "under the map of p_abnormal" in browser.find_element("id", "film").get_attribute("aria-label")
    browser.find_element("id", "show-boxes").send_keys(Keys.SPACE)
    assert drawn(browser) == 0 < count
    button.send_keys(Keys.ENTER)
    assert browser.execute_script(layers) == 1


@pytest.mark.parametrize("content, said", [
    (b"no image", "Nothing is known about this image"), (b"\0" * 2**20 + b"x", "expected at most 1,048,576")])
def test_an_image_that_was_not_read_shows_no_picture_of_the_last(browser, image, tmp_path, content, said):
    upload(browser, image)
    path = tmp_path / f"{SECRET}.png"
    path.write_bytes(content)
    browser.find_element("id", "file").send_keys(str(path))
    wait(browser, "!document.getElementById('problem').hidden")
    assert said in text(browser, "problem") and SECRET not in text(browser, "problem")
    assert not browser.find_element("id", "answer").is_displayed()
    browser.get_log("browser")  # Chromium logs the status 422


@pytest.mark.parametrize("page", ["", "docs"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(browser, address, image, width, scheme, page):
    set_width(browser, width)
    set_scheme(browser, scheme)
    browser.get(address + page)
    if page:
        wait(browser, "document.querySelector('main section') !== null")
    else:
        upload(browser, image)
        browser.find_element("css selector", "button.map").click()
    require_accessible(browser)
    set_scheme(browser)
