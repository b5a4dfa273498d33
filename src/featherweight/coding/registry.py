"""The coders that files can use, by name and by id. A new one is a file of its own and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.coding.context import ContextCoder
from featherweight.coding.fixed import FixedWidth
from featherweight.coding.huffman import Huffman
from featherweight.coding.layout import Coder, LayoutCoder
from featherweight.coding.rans import Rans
from featherweight.errors import FeatherweightError, FormatError

if TYPE_CHECKING:
    from featherweight.coding.symbols import Symbols

_ALL: tuple[Coder, ...] = (
    LayoutCoder("fixed", 16, FixedWidth()),
    LayoutCoder("huffman", 17, Huffman()),
    LayoutCoder("rans", 18, Rans(), sparse_slack=0.01),
    ContextCoder(),
)

#: Coders of index arrays by name.
CODERS: dict[str, Coder] = {coder.name: coder for coder in _ALL}

#: In place of a coder's name: whichever makes the array smallest.
#: The smallest of them, where nothing else is asked for.
DEFAULT_CODER = "context"

AUTO = "auto"

#: All that may be given as the name of a coder.
CODER_CHOICES: tuple[str, ...] = (*CODERS, AUTO)

_BY_ID = {coder.id: coder for coder in _ALL}


class UnknownCoderError(FeatherweightError, ValueError):
    """A coder was asked for that does not exist."""


def coder_by_name(name: str) -> Coder:
    """Find a coder.

    Raises:
        UnknownCoderError: if there is none of this name; it lists those that there are.
    """
    check_coder_choice(name)
    if name == AUTO:
        raise UnknownCoderError("'auto' is no coder but a choice of one: use encode_indices")
    return CODERS[name]


def check_coder_choice(name: str) -> None:
    """Raise an :class:`UnknownCoderError` unless this is one of :data:`CODER_CHOICES`."""
    if name not in CODER_CHOICES:
        raise UnknownCoderError(f"unknown coder {name!r}; known: {', '.join(CODER_CHOICES)}")


def encode_indices(indices: Symbols, codebook_size: int, choice: str) -> tuple[Coder, bytes]:
    """Code an index array with a coder by name, or with ``"auto"`` by all of them to keep the smallest.

    Args:
        indices: of any shape.
        codebook_size: k.
        choice: one of :data:`CODER_CHOICES`.

    Returns:
        The coder taken, the first of equals, and the payload.

    Raises:
        UnknownCoderError: if there is none of this name.
        TensorError: if an index is not below ``codebook_size``.
    """
    if choice != AUTO:
        coder = coder_by_name(choice)
        return coder, coder.encode(indices, codebook_size)
    coded = [(coder, coder.encode(indices, codebook_size)) for coder in _ALL]
    return min(coded, key=lambda pair: len(pair[1]))


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
