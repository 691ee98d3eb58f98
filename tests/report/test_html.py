"""The report's page in a real browser."""

import re

import pytest
from PIL import Image

from gpae.report.write import write_report
from reference.browser import CHROMIUM, Browser
from reference.runs import write_study

pytest.importorskip("rliable", reason="the extra `report` is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = write_study(
        tmp_path_factory.mktemp("page") / "small", film=True, commit="0123456789" * 4
    )  # a word too long for a phone
    write_report([path], resamples=50)
    return path / "report" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (.ci/run installs it): the page cannot be opened")
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def column(browser, table, number):
    return browser.run(
        f"[...document.querySelectorAll('#{table} tbody tr:not([hidden])')].map(r => r.cells[{number}].textContent)"
    )


def test_nothing_comes_from_outside(page):
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "url(" not in text
    assert text.count("data:image/gif;base64,") == 2


@pytest.mark.parametrize(("width", "phone", "dark"), [(1280, False, False), (390, True, False), (1280, False, True)])
def test_it_opens_without_complaint_and_fits(page, browser, tmp_path, width, phone, dark):
    browser.complaints.clear()
    browser.open(page.as_uri(), width=width, height=844, phone=phone, dark=dark)
    assert browser.run("document.title") == "small: gpae report"
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.images].every(i => (i.loading = 'eager') && i.alt)")
    browser.screenshot(tmp_path / "page.png", whole=False)
    picture = Image.open(tmp_path / "page.png").convert("L")
    assert picture.width == width
    background = picture.getpixel((3, 3))
    assert (background < 60) == dark
    assert browser.complaints == []


def test_tables_are_sorted_and_filtered_by_clicking_and_by_keys(page, browser):
    browser.open(page.as_uri())
    name = browser.run("document.querySelector('table.sortable').id")
    assert column(browser, name, 0) == ["gpae (off-policy)", "mappo (off-policy)"]
    browser.click(f"#{name} th:nth-child(1) button")
    assert column(browser, name, 0) == ["mappo (off-policy)", "gpae (off-policy)"]
    assert browser.run(f"document.querySelector('#{name} th').getAttribute('aria-sort')") == "descending"
    browser.run(f"document.querySelector('#{name} th:nth-child(3) button').focus()")
    browser.press("Enter")
    browser.press("Enter")
    values = [float(text.split()[0]) for text in column(browser, name, 2)]
    assert values == sorted(values)
    # A longer table has a field to filter by; the address can ask for both.
    field = "input[data-table]"
    table = browser.run(f"document.querySelector('{field}').dataset.table")
    rows = len(column(browser, table, 0))
    browser.run(f"document.querySelector('{field}').closest('details')?.setAttribute('open', '')")
    browser.click(field)
    browser.type("0%")
    assert 0 < len(column(browser, table, 0)) <= rows
    browser.type(" nothing like that")
    assert column(browser, table, 0) == []
    browser.open(f"{page.as_uri()}#sort={name}.2.descending")
    values = [float(text.split()[0]) for text in column(browser, name, 2)]
    assert values == sorted(values, reverse=True)


def test_curves_tell_their_values(page, browser):
    browser.open(page.as_uri())
    tip = "document.querySelector('.plot .tip')"
    assert browser.run(f"getComputedStyle({tip}).visibility") == "hidden"
    browser.hover(".plot svg", 0.95)
    assert browser.run(f"getComputedStyle({tip}).visibility") == "visible"
    assert "environment steps: 8,192" in browser.run(f"{tip}.textContent")
    assert re.search(r"gpae \(off-policy\): [\d.]+ % \[[\d.]+ %, [\d.]+ %\]", browser.run(f"{tip}.textContent"))
    browser.run("document.querySelector('.plot svg').focus()")
    browser.press("ArrowLeft")
    assert "environment steps: 4,096" in browser.run(f"{tip}.textContent")
    browser.press("Escape")
    assert browser.run(f"getComputedStyle({tip}).visibility") == "hidden"
    browser.click(".legend button")
    assert browser.run("document.querySelector('.plot [data-of]').style.display") == "none"
    browser.hover(".plot svg", 0.9)
    assert "gpae" not in browser.run(f"{tip}.textContent")
