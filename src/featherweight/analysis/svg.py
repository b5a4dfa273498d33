"""SVG as text: elements whose attributes and texts are escaped, and paths in few characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """An element.

    Args:
        tag: its name.
        children: elements as they are; plain text is escaped.
        attributes: ``stroke_width`` is ``stroke-width``, ``class_`` is ``class``; ``None`` is left out.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _number(value))
        for name, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, inner)  # noqa: S704  (tags are ours)


def drawing(width: float, height: float, label: str, children: Iterable[str]) -> Markup:
    """A whole picture with a text for people who do not see it; it is as wide as its place is."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        role="img",
        aria_label=label,
    )


def line(points: Iterable[tuple[float, float]]) -> str:
    """The ``d`` of a path through points."""
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)


def steps(edges: list[float], heights: list[float], ground: float) -> str:
    """The ``d`` of a histogram's outline, from the ground and back to it.

    Args:
        edges: places of the bins' edges, one more than bins.
        heights: places of the bins' tops.
        ground: place of zero.
    """
    parts = [f"M{_number(edges[0])} {_number(ground)}"]
    last = ground
    for right, top in zip(edges[1:], heights, strict=True):
        parts.append(f"V{_number(top)}" if top != last else "")
        parts.append(f"H{_number(right)}")
        last = top
    return "".join(parts) + f"V{_number(ground)}"


def stems(points: Iterable[tuple[float, float]], ground: float) -> str:
    """The ``d`` of a path of lines that stand on the ground."""
    return "".join(f"M{_number(x)} {_number(ground)}V{_number(y)}" for x, y in points)


def _number(value: object) -> object:
    """A tenth of a unit is finer than a screen."""
    if isinstance(value, float):
        text = f"{value:.1f}"
        return text.removesuffix(".0")
    return value
