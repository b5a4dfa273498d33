"""``featherweight decompress``: a ``.fwt`` file into safetensors, which any framework reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import featherweight as fw
from featherweight.cli.arguments import UsageError, add_output, check_output
from featherweight.cli.console import progress, say
from featherweight.cli.training_options import add_quiet

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE.fwt", help="the file to decode")
    add_output(parser, "OUT.safetensors")
    add_quiet(parser)


def run(args: Namespace) -> None:
    """Decode one tensor after another and write it."""
    from featherweight.interop.safetensors import write_safetensors
    from featherweight.lazy import WatchedTensors

    if args.output.suffix != ".safetensors":
        raise UsageError(f"{args.output}: this writes safetensors; name the output *.safetensors")
    check_output(args.output, force=args.force)
    with fw.open_file(args.file) as file:
        tensors = file.tensors()
        with progress("decoding", len(tensors), quiet=args.quiet) as advance:
            watched = WatchedTensors(tensors, lambda _: advance())
            size = write_safetensors(watched, args.output, metadata=file.metadata, overwrite=args.force)
    say(f"{args.output}: {size:,} bytes, {len(tensors)} tensors")
