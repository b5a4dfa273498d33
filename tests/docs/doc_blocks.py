"""The fenced blocks of the documentation, and what the comment before each says of running it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if not path.name.endswith(".template.md"))

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: after the fence.
        text: between the fences.
        mark: the comment on the line before, such as ``run`` or ``not run: needs MNIST``.
        line: where it begins, counted from 1.
    """

    language: str
    text: str
    mark: str
    line: int

    @property
    def commands(self) -> list[str]:
        """The commands of a console, each on one line."""
        joined = self.text.replace("\\\n", "")
        prompts = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
        return [line.partition("  #")[0].strip() for line in prompts]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["text"], m["mark"] or "", text.count("\n", 0, m.start("text")))
        for m in _FENCE.finditer(text)
    ]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
