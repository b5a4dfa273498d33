"""The coders that files can use, by name and by id. A new one is a file of its own and a line here."""

from __future__ import annotations

from featherweight.coding.fixed import FixedWidth
from featherweight.coding.huffman import Huffman
from featherweight.coding.layout import Coder, LayoutCoder
from featherweight.coding.rans import Rans
from featherweight.errors import FeatherweightError, FormatError

_ALL: tuple[Coder, ...] = (
    LayoutCoder("fixed", 16, FixedWidth()),
    LayoutCoder("huffman", 17, Huffman()),
    LayoutCoder("rans", 18, Rans(), sparse_slack=0.01),
)

#: Coders of index arrays by name.
CODERS: dict[str, Coder] = {coder.name: coder for coder in _ALL}

_BY_ID = {coder.id: coder for coder in _ALL}


class UnknownCoderError(FeatherweightError, ValueError):
    """A coder was asked for that does not exist."""


def coder_by_name(name: str) -> Coder:
    """Find a coder.

    Raises:
        UnknownCoderError: if there is none of this name; it lists those that there are.
    """
    if name not in CODERS:
        raise UnknownCoderError(f"unknown coder {name!r}; known: {', '.join(CODERS)}")
    return CODERS[name]


def coder_by_id(coder_id: int) -> Coder:
    """Find the coder of a tensor in a file.

    Raises:
        FormatError: if this version has none with this id.
    """
    if coder_id not in _BY_ID:
        raise FormatError(
            f"is coded with coder {coder_id}, which this version does not know; "
            "upgrade Featherweight to read it"
        )
    return _BY_ID[coder_id]
