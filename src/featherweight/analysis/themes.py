"""The colours of all figures and reports, on light and on dark paper.

Colours of curves are those of Okabe and Ito ("Color Universal Design", 2008), which people of all kinds of
colour vision can tell apart, darker or lighter where the paper asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        name: in file names.
        paper: the background.
        ink: text, and the curve that matters most.
        muted: ticks and notes.
        grid: lines that help to read.
        accent: the one thing to look at where there is one.
        colours: of curves, in order.
    """

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    accent: str
    colours: tuple[str, ...]


LIGHT = Theme(
    "light",
    "#ffffff",
    "#1b1f24",
    "#5d666f",
    "#e3e7eb",
    "#0b6e99",
    ("#0072b2", "#d55e00", "#009e73", "#882255", "#3a9bd1", "#7a5230", "#b8860b"),
)
DARK = Theme(
    "dark",
    "#0d1117",
    "#e8edf2",
    "#9aa5b1",
    "#272e37",
    "#56b4e9",
    ("#56b4e9", "#ff8c42", "#2fd3a0", "#e79ac7", "#f0e442", "#9db7ff", "#c9a27e"),
)
THEMES = (LIGHT, DARK)
