"""Integer arrays to bytes and back: the coders of a ``.fwt`` file.

A *coder* codes a whole index array (``fixed``, ``huffman``, ``rans``); a *raw coder* codes the bytes of a
tensor that is not quantized (``plain``, ``sparse``, ``planes``, ``adaptive``). Both are found by name when
writing and by id when reading. Everything here needs NumPy and Numba alone, and every decoder treats its
payload as hostile: it raises :class:`~featherweight.errors.FormatError` rather than read or write out of
bounds.
"""

from featherweight.coding.accounting import PaperSizes, paper_sizes
from featherweight.coding.cursor import Cursor, encode_varint
from featherweight.coding.layout import Coder, LayoutCoder, StreamSizes
from featherweight.coding.raw import RAW_CODERS, RawCoder, encode_raw, raw_coder_by_id
from featherweight.coding.registry import (
    AUTO,
    CODER_CHOICES,
    CODERS,
    DEFAULT_CODER,
    UnknownCoderError,
    check_coder_choice,
    coder_by_id,
    coder_by_name,
    encode_indices,
)
from featherweight.coding.symbols import entropy_bits, histogram

__all__ = [
    "AUTO",
    "CODERS",
    "CODER_CHOICES",
    "DEFAULT_CODER",
    "RAW_CODERS",
    "Coder",
    "Cursor",
    "LayoutCoder",
    "PaperSizes",
    "RawCoder",
    "StreamSizes",
    "UnknownCoderError",
    "check_coder_choice",
    "coder_by_id",
    "coder_by_name",
    "encode_indices",
    "encode_raw",
    "encode_varint",
    "entropy_bits",
    "histogram",
    "paper_sizes",
    "raw_coder_by_id",
]
