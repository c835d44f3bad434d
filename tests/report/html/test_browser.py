"""The page as a reader has it: in Chromium, from a file, without network; light and dark, wide and narrow."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from PIL import Image
from report.html.browser import Browser, hidden_plots
from report.html.builds import a_build
from report.html.test_page import HOSTILE
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edgecnn.report import html

N_PLOTS = {"one": 12, "two": 2, "labels": 12}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    written = {
        "one": [a_build()],
        "two": [a_build("one"), a_build("two")],
        "hostile": [a_build(layer=HOSTILE, class_names=(HOSTILE, "dog", "owl"))],
        "long": [a_build("long_" * 19)],
    }
    written["labels"] = [a_build(layer="features/" * 9 + "conv")]
    for name, builds in written.items():
        (folder / f"{name} page.html").write_text(html.render(builds), encoding="utf-8")
    return {name: folder / f"{name} page.html" for name in written}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", ["one", "two", "labels"])
def test_every_plot_is_seen_and_nothing_is_wider_than_the_screen(
    chromium: Browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    chromium.open(pages[name], width=width, scheme=scheme)
    assert chromium.run("return document.querySelectorAll('figure svg').length") == N_PLOTS[name]
    assert hidden_plots(chromium) == []
    assert chromium.run("return document.documentElement.scrollWidth") == width
    assert chromium.errors() == []
    assert chromium.requests() == []


def test_letters_of_plots_can_be_read_on_a_narrow_screen(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"], width=400)
    size = "parseFloat(getComputedStyle(text).fontSize)"
    shrunk = "Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b)"
    texts = "[...document.querySelectorAll('figure svg text')]"
    smallest = chromium.run(f"return Math.min(...{texts}.map(text => {size} * {shrunk}))")
    assert smallest >= 8


def test_a_long_name_does_not_widen_the_page(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["long"], width=400)
    assert chromium.run("return document.documentElement.scrollWidth") == 400


def test_markup_in_names_does_not_run(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["hostile"])
    assert HOSTILE in chromium.run("return document.body.textContent")
    assert chromium.run("return document.scripts.length") == 1
    assert chromium.errors() == []
    chromium.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    assert chromium.run("return window.ran === undefined"), "the page's policy lets no other script run"


def test_dark_is_dark_and_light_is_light(chromium: Browser, pages: dict[str, Path]) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        chromium.open(pages["one"], scheme=scheme)
        picture = Image.open(io.BytesIO(chromium.picture())).convert("L")
        color = "return getComputedStyle(document.querySelector('figure svg text')).fill"
        seen[scheme] = (picture.resize((1, 1)).getpixel((0, 0)), chromium.run(color))
    assert seen["light"][0] > 200
    assert seen["dark"][0] < 60
    assert seen["light"][1] != seen["dark"][1], "the letters of plots follow"


def column(chromium: Browser, section: str, index: int) -> list[str]:
    cells = f"document.querySelectorAll('#{section} table tbody tr')"
    return chromium.run(f"return [...{cells}].map(row => row.cells[{index}].textContent.trim())")


def test_tables_sort_by_mouse_and_by_key(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["two"])
    before = column(chromium, "files", 2)
    assert before[:3] == ["248.6 kB", "38.3 kB", "38.0 kB"]
    head = chromium.driver.find_element(By.CSS_SELECTOR, "#files thead th:nth-child(3)")
    head.find_element(By.TAG_NAME, "button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(chromium, "files", 2) == sorted(before, key=lambda text: float(text.split()[0]))
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"
    assert column(chromium, "files", 2)[0] == "248.6 kB"
    drop = chromium.driver.find_element(By.CSS_SELECTOR, "#files thead th:nth-child(5) button")
    for _ in ("up", "down"):
        drop.click()
        assert column(chromium, "files", 4)[-2:] == ["-", "-"], "what has no figure comes last"
        assert "-" not in column(chromium, "files", 4)[:-2]
    assert head.get_attribute("aria-sort") is None


def test_the_filter_leaves_the_rows_with_all_of_its_words(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"])
    chromium.driver.find_element(By.CSS_SELECTOR, "#latency input").send_keys("int8 LITERT")
    rows = "document.querySelectorAll('#latency tbody tr')"
    shown = chromium.run(f"return [...{rows}].filter(row => row.offsetHeight).map(row => row.textContent)")
    assert len(shown) == 2
    assert all("int8.tflite" in row and "litert" in row for row in shown)


def test_pictures_are_chosen_by_who_is_right(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"])
    pictures = "[...document.querySelectorAll('.pictures img')]"
    images = f"return {pictures}.filter(one => one.offsetHeight).map(one => one.alt)"
    assert len(chromium.run(images)) == 3
    broken = (
        "return [...document.querySelectorAll('.pictures img')].filter(one => one.naturalWidth !== 28).length"
    )
    assert chromium.run(broken) == 0
    chromium.driver.find_element(By.CSS_SELECTOR, "[data-show=quantized]").click()
    assert chromium.run(images) == ["test image 23, a dog: float says cat, int8 says dog"]


def test_marks_of_plots_tell_their_figures(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"])
    mark = chromium.driver.find_element(By.CSS_SELECTOR, "#files [data-tip^='int8.tflite']")
    chromium.run(
        "document.querySelector('#files figure').scrollIntoView({behavior: 'instant', block: 'center'})"
    )
    from selenium.webdriver import ActionChains

    ActionChains(chromium.driver).move_to_element(mark).perform()
    tip = chromium.driver.find_element(By.ID, "tip")
    assert tip.is_displayed()
    assert tip.text == "int8.tflite: 11.6 kB, 98.80 %"


def test_the_keyboard_reaches_everything_that_can_be_used(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"])
    reached = set()
    for _ in range(150):
        chromium.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(chromium.run("return document.activeElement.textContent.trim().slice(0, 20)"))
    assert {"To the content", "Latency", "median/p90", "Activations: error, ", "only int8 right"} <= reached


def test_a_screen_reader_is_told_what_every_plot_and_table_is(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    chromium.open(pages["one"])
    nodes = chromium.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {
        role: [n.get("name", {}).get("value", "") for n in nodes if n.get("role", {}).get("value") == role]
        for role in ("image", "img", "table", "heading")
    }
    plots = [name for name in named["image"] + named["img"] if "Latency" in name or "Accuracy" in name]
    assert any("int8.tflite, litert median" in name for name in plots)
    assert named["table"]
    assert all(named["table"])
    assert "The budget holds" in named["heading"]
    levels = chromium.run(
        "return [...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_it_prints_light_and_unfolded(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"], scheme="dark")
    assert chromium.printed().startswith(b"%PDF")
    assert chromium.run("return document.querySelectorAll('details[open]').length") == 0, "folded again"
    chromium.run("dispatchEvent(new Event('beforeprint'))")
    assert chromium.run("return document.querySelectorAll('details:not([open])').length") == 0
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    style = "return getComputedStyle(document.body)"
    assert chromium.run(f"{style}.backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.run(f"{style}.color") == "rgb(0, 0, 0)"


def test_without_script_the_page_is_whole(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.open(pages["one"])
        text = chromium.driver.execute_cdp_cmd("DOM.getDocument", {"depth": -1})
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "Where int8 and float disagree" in str(text)
