"""Chromium for tests of pages: Debian's ``chromium`` and ``chromium-driver``, by Selenium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
#: Mark of a test module.
needs_browser = pytest.mark.skipif(
    not CHROMIUM or not DRIVER or find_spec("selenium") is None,
    reason="chromium, chromedriver or Selenium is not installed")
SCHEMES, WIDTHS = ("light", "dark"), (1440, 360)

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--disable-sync")


@contextmanager
def chromium(profile: Path) -> Iterator:
    """A browser with a profile of its own, whose console is kept."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=webdriver.ChromeService(DRIVER), options=options)
    try:
        yield driver
    finally:
        driver.quit()


def set_width(driver, width: int, height: int = 900) -> None:
    """The window's size in CSS pixels, below 500 that of a telephone."""
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})


def set_scheme(driver, scheme: str = "") -> None:
    """``light`` or ``dark``; nothing for the browser's own."""
    features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def require_accessible(driver) -> None:
    """Fail where axe-core, or that of ``VINDR_AXE``, finds an issue; the page must fit its width."""
    axe_core_python = pytest.importorskip("axe_core_python")
    default = Path(axe_core_python.__file__).with_name("axe.min.js")
    script = Path(os.environ.get("VINDR_AXE") or default).read_text(encoding="utf-8")
    # Not an element, which a page's policy would refuse.
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": script})
    result = driver.execute_async_script("axe.run().then(arguments[0])")
    problems = [(issue["id"], issue["impact"], issue["nodes"][0]["html"],
                 issue["nodes"][0].get("failureSummary")) for issue in result["violations"]]
    if problems:
        pytest.fail("\n".join(map(str, problems)), pytrace=False)
    assert len(result["passes"]) > 10, "axe-core saw no page"
    assert driver.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
