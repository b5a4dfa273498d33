"""What MkDocs cannot do by itself: pages and links that lie outside of ``docs/``.

Pages are also read in the repository, where they link to ``../RESULTS.md`` or ``../recipes/NAME.yaml``. On
the site such files are under ``project/``: Markdown as a page, anything else as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OUTSIDE = Path("project")

#: Pages from outside of ``docs/`` that the navigation names.
PAGES = ("RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")

#: What docstrings say to Sphinx, as HTML: a role, and a name of which ``~`` keeps the last part.
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):\s*<code>(~?)([^<]*)</code>")

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to."""
    wanted = {ROOT / page for page in PAGES}
    for source in [*DOCS.rglob("*.md"), *wanted]:
        text = source.read_text(encoding="utf-8")
        wanted |= {path for link in _LINK.findall(text) if (path := _target(source, link)).is_file()}
    for path in sorted(wanted):
        if path.is_relative_to(ROOT) and not path.is_relative_to(DOCS):
            place = OUTSIDE / path.relative_to(ROOT)
            files.append(File.generated(config, place.as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links to where the site has what they lead to; those to a directory become plain text."""
    place = Path(page.file.src_uri)
    outside = place.parts[0] == OUTSIDE.name
    source = ROOT / place.relative_to(OUTSIDE) if outside else DOCS / place

    def moved(match: re.Match[str]) -> str:
        path = _target(source, match[1])
        if not path.is_relative_to(ROOT):
            return match[1]
        inside = path.is_relative_to(DOCS)
        to = path.relative_to(DOCS) if inside else OUTSIDE / path.relative_to(ROOT)
        return Path(os.path.relpath(to, place.parent)).as_posix()

    directories = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)\)")
    markdown = directories.sub(lambda m: m[1] if _target(source, m[2]).is_dir() else m[0], markdown)
    return _LINK.sub(moved, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Take Sphinx's roles out of the docstrings of the API reference."""
    return _ROLE.sub(lambda m: f"<code>{m[2].rpartition('.')[2] if m[1] else m[2]}</code>", html)


def _target(source: Path, link: str) -> Path:
    return Path(os.path.normpath(source.parent / link))
