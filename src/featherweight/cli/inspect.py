"""``featherweight inspect``: what a file holds and what each layer costs. Needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from featherweight.analysis.sizes import ModelSizes, measure_file
from featherweight.analysis.tables import WIDTH, layer_table
from featherweight.analysis.text import times
from featherweight.cli.console import output, print_json, progress, say
from featherweight.cli.training_options import add_quiet
from featherweight.fileformat import FileReader

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_LEGEND = (
    "P pruned, Q quantized, H Huffman-coded: bits a stored weight and a position,\n"
    "and sizes in percent of the dense tensor, by the accounting of Han et al.\n"
    "(2015). The last column is what the file itself spends."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE.fwt", help="the file to look at")
    parser.add_argument("--json", action="store_true", help="print JSON, every tensor by itself")
    add_quiet(parser)


def run(args: Namespace) -> None:
    """Print the table, or JSON."""
    with FileReader(args.file) as reader:
        with progress("decoding", len(reader.names), quiet=args.json or args.quiet) as advance:
            sizes = measure_file(reader, each=advance)
        metadata = reader.metadata
    if args.json:
        print_json(sizes.to_dict())
    else:
        _show(args.file, sizes, metadata)


def _show(path: Path, sizes: ModelSizes, metadata: dict[str, str]) -> None:
    out = output()
    say(headline(path, sizes), style="bold", console=out)
    han, nonzero = times(sizes.ratio_h), times(sizes.ratio_n)
    say(f"H, by Han's accounting: {han}; N, weights over nonzero weights: {nonzero}", console=out)
    out.print()
    out.print(layer_table(sizes, brief=out.width < WIDTH))
    for tensor in sizes.tensors:
        if tensor.alias_of is not None:
            say(f"{tensor.name} is tied to {tensor.alias_of}", console=out)
    out.print()
    out.print(Text(_LEGEND, "dim"))
    for key, value in metadata.items():
        say(f"{key}: {value}", console=out)


def headline(path: Path, sizes: ModelSizes) -> str:
    """The file's size against the dense model's, in one line."""
    return (
        f"{path}: {sizes.file_bytes:,} bytes, {times(sizes.ratio)} smaller than dense "
        f"({sizes.dense_bytes:,} bytes), coder {sizes.coder}"
    )
