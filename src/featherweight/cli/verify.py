"""``featherweight verify``: is this file whole? Needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.console import progress, say
from featherweight.cli.training_options import add_quiet
from featherweight.fileformat import FileReader

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE.fwt", help="the file to check")
    add_quiet(parser)


def run(args: Namespace) -> None:
    """Check every checksum and decode every tensor; a fault is a FormatError, so exit code 1."""
    with FileReader(args.file) as reader:
        tensors = len(reader.names)
        with progress("checking", tensors, quiet=args.quiet) as advance:
            reader.verify(each=advance)
        what = "tensor" if tensors == 1 else "tensors"
        say(f"{args.file}: ok, {tensors} {what}, {reader.file_bytes} bytes")
