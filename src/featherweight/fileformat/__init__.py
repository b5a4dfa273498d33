"""The ``.fwt`` container: named tensors in one checksummed file; see ``docs/format.md``."""

from featherweight.fileformat.detect import find_codebook
from featherweight.fileformat.reader import DEFAULT_MAX_BYTES, FileReader, TensorInfo
from featherweight.fileformat.writer import write_file

__all__ = ["DEFAULT_MAX_BYTES", "FileReader", "TensorInfo", "find_codebook", "write_file"]
