"""The page in a real browser: Chromium without a window, through playwright."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_samples import SCRIPT, make_run, odd_tensors, shared

from featherweight.analysis.report import write_report
from featherweight.analysis.sizes import measure_file
from featherweight.fileformat import FileReader, write_file

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS, THEMES = (1280, 390), ("light", "dark")

#: Contrast that WCAG 2 asks of text, level AA.
LEAST_CONTRAST = 4.5

#: All text of the page with its colour and what is behind it, as browsers compute them.
TEXTS = """() => {
  const opaque = (colour) => !/^rgba\\(.*, 0\\)$/.test(colour) && colour !== "transparent";
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || element.closest("script") || !element.getClientRects().length) continue;
    let behind = element;
    while (behind && !opaque(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const style = getComputedStyle(element);
    const colour = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    found.push([text, colour, getComputedStyle(behind || document.body).backgroundColor]);
  }
  return found;
}"""


class Opened:
    """A page, and what it said and asked for while it was open."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, theme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.asked = [url for url in self.asked if url != path.as_uri() and not url.startswith("data:")]

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()

    def column(self, number: int) -> list[str]:
        cells = f"[...document.querySelectorAll('#tensors tbody tr')].map(r => r.cells[{number}].innerText)"
        found: list[str] = self.page.evaluate(cells)
        return found

    def order(self, number: int) -> str | None:
        header = self.page.locator("#tensors thead th").nth(number)
        found: str | None = header.get_attribute("aria-sort")
        return found


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    run = make_run(folder / "made")
    write_report(run, folder / "run.html")
    return folder / "run.html"


@pytest.fixture(scope="module")
def odd_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    write_file(folder / "odd.fwt", odd_tensors(), metadata={SCRIPT: SCRIPT, "long": "x" * 5000})
    write_report(folder / "odd.fwt", folder / "odd.html")
    return folder / "odd.html"


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it, of ``rgb(r, g, b)``."""
    values = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["run", "odd"])
def test_it_fits_is_legible_and_is_silent(
    browser: Any, run_page: Path, odd_page: Path, kind: str, width: int, theme: str
) -> None:
    with Opened(browser, run_page if kind == "run" else odd_page, width, theme) as opened:
        assert (opened.said, opened.asked) == ([], [])
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.page.evaluate("window.hacked === undefined")
        images = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
        assert opened.page.evaluate(images)
        texts = opened.page.evaluate(TEXTS)
        assert len(texts) > 100
        weak = [text for text in texts if contrast(text[1], text[2]) < LEAST_CONTRAST]
        assert weak == []
        dark = luminance(opened.page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.1
        assert dark == (theme == "dark")


def test_all_text_of_the_odd_file_is_text(browser: Any, odd_page: Path) -> None:
    with Opened(browser, odd_page) as opened:
        assert any(SCRIPT[:30] in name for name in opened.column(0))
        assert SCRIPT in opened.page.inner_text(".metadata")
        assert opened.page.locator("script").count() == 1
        # Not from the page, so its policy holds it off.
        opened.page.evaluate("document.body.append(Object.assign(document.createElement('script'), "
                             "{textContent: 'window.hacked = 3'}))")  # fmt: skip
        assert opened.page.evaluate("window.hacked === undefined")


def sizes_in_file(page: Path) -> list[int]:
    with FileReader(page.with_name("made") / "made.fwt") as reader:
        return sorted(tensor.bytes for tensor in measure_file(reader).tensors)


def test_a_click_sorts_by_bytes_and_another_the_other_way(browser: Any, run_page: Path) -> None:
    with Opened(browser, run_page) as opened:
        names = opened.column(0)
        assert [name.split()[0] for name in names] == [
            "conv1.weight", "conv2.weight", "conv10.weight", "fc.bias", "fc.weight",
        ]  # fmt: skip
        assert (opened.order(0), opened.order(6)) == ("ascending", None)
        button = opened.page.locator("#tensors thead th").nth(6).locator("button")
        button.click()
        expected = [f"{size:,}" for size in sizes_in_file(run_page)]
        assert opened.column(6) == expected[::-1]
        assert (opened.order(0), opened.order(6)) == (None, "descending")
        button.click()
        assert opened.column(6) == expected
        assert opened.order(6) == "ascending"
        assert sorted(opened.column(0)) == sorted(names)
        assert opened.said == []


def test_the_keyboard_sorts_too(browser: Any, run_page: Path) -> None:
    with Opened(browser, run_page) as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.innerText").startswith("tensor")
        opened.page.keyboard.press("Tab")
        opened.page.keyboard.press("Enter")
        assert opened.column(1) == ["120,000", "2,400", "432", "300", "150"]
        assert opened.order(1) == "descending"
        opened.page.keyboard.press("Space")
        assert opened.column(1) == ["150", "300", "432", "2,400", "120,000"]
        for _ in range(2):
            opened.page.keyboard.press("Tab")
        opened.page.keyboard.press("Enter")
        # What has no codebook stands last, whichever way.
        assert opened.column(3) == ["16", "8", "8", "8", "–"]
        opened.page.keyboard.press("Enter")
        assert opened.column(3) == ["8", "8", "8", "16", "–"]
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert opened.page.evaluate(outline) == "solid"


@pytest.mark.slow
def test_five_thousand_tensors(browser: Any, tmp_path: Path) -> None:
    tensor = shared((2, 3), 3, 0.5, 0)
    write_file(tmp_path / "many.fwt", {f"layer{i}.weight": tensor for i in range(5000)}, coder="fixed")
    size = write_report(tmp_path / "many.fwt", tmp_path / "many.html")
    assert size < 3_000_000
    with Opened(browser, tmp_path / "many.html", 390) as opened:
        assert opened.said == []
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        opened.page.locator("#tensors thead button").first.click()
        assert opened.column(0)[0].startswith("layer4999.weight")
        assert len(opened.column(0)) == 5000
        # The table scrolls by itself, and the keyboard can reach it.
        assert opened.page.locator(".scroll").get_attribute("tabindex") == "0"
