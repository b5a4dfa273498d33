"""The site builds without a warning, holds together, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning, such as of a link that leads nowhere, fails."""
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Links(HTMLParser):
    """What a page links to, and what it loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        for key in ("src", "srcset", "data"):
            if found.get(key):
                self.loaded.append(str(found[key]))
        if tag == "link" and found.get("rel") in (
            "stylesheet",
            "icon",
            "preconnect",
            "dns-prefetch",
            "preload",
        ):
            self.loaded.append(str(found.get("href")))


def test_links_and_pictures_lead_somewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        for link in links.links + links.loaded:
            parts = urlsplit(link)
            if parts.scheme or not parts.path or page.name == "404.html":
                continue
            assert (page.parent / unquote(parts.path)).exists(), f"{page.relative_to(site)}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        assert not [link for link in links.loaded if urlsplit(link).netloc], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_pages_say_what_they_should(site: Path) -> None:
    reference = (site / "api" / "featherweight.html").read_text(encoding="utf-8")
    for name in ("prune", "share", "compress", "save_file", "QuantizedTensor", "Recipe", "FormatError"):
        assert re.search(rf'id="[\w.]+\.{name}"', reference), name
    assert "132×" in (site / "project" / "RESULTS.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_asks_no_host_and_shows_the_pictures(
    site: Path, browser: Any, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(120_000)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for name in ("index.html", "methods/taylor.html"):
        page.goto((site / name).as_uri())
        page.wait_for_function("[...document.images].every(image => image.complete)")
        shown = page.eval_on_selector_all("picture img", "i => i.map(p => [p.currentSrc, p.naturalWidth])")
        assert shown
        assert all(source.endswith(f"-{scheme}.png") and wide > 300 for source, wide in shown)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not complaints
