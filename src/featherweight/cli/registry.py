"""What verbs there are. A new one is a module beside this one and a line here.

A verb's module has ``add_arguments(parser)`` and ``run(args)``; one that is marked ``raw`` has
``run_raw(argv)`` in place of the latter and does its own parsing, as Lightning's command line does; what it
declares is for shell completion. Modules import what is slow to import in ``run``, so that help and
completion need no PyTorch. The parser is argparse's: jsonargparse, on which Lightning's builds, spreads its
error messages over several lines and does not name an option as it was typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


class ParsedVerb(Protocol):
    """The module of a verb."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verb's arguments."""

    def run(self, args: Namespace) -> int | None:
        """Do the job; ``None`` means 0."""


class RawVerb(Protocol):
    """The module of a verb that parses its own arguments."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments that shell completion offers."""

    def run_raw(self, argv: list[str]) -> int:
        """Do the job with the arguments after the verb."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        name: as it is typed.
        summary: one line for ``--help``.
        example: a command that can be typed as it is, if its files are there.
        more: further examples.
        raw: whether it parses its own arguments.
    """

    name: str
    summary: str
    example: str
    more: tuple[str, ...] = ()
    raw: bool = False

    def load(self) -> ParsedVerb:
        """Import the verb's module."""
        return cast("ParsedVerb", self._module())

    def load_raw(self) -> RawVerb:
        """Import the module of a verb that is ``raw``."""
        return cast("RawVerb", self._module())

    def _module(self) -> object:
        return import_module(f"featherweight.cli.{self.name.replace('-', '_')}")


#: Verbs by the heading under which ``featherweight --help`` shows them.
GROUPS: dict[str, tuple[Verb, ...]] = {
    "the whole job": (
        Verb(
            "demo",
            "train, prune, share, encode and test a network on bundled digits",
            "featherweight demo --output demo",
            ("featherweight demo --force --json",),
        ),
        Verb(
            "run",
            "train, prune, share and encode a model of yours, by one file",
            "featherweight run recipes/lenet300-mnist.yaml --output runs/lenet300",
            (
                "featherweight run --resume runs/lenet300-mnist",
                "featherweight run recipes/lenet5-mnist.yaml --data-root ~/data --quiet",
            ),
        ),
    ),
    "training": (
        Verb(
            "fit",
            "train, with callbacks that compress",
            "featherweight fit --config recipes/lightning/lenet300-mnist.yaml",
            ("featherweight fit --config F --trainer.max_epochs 5 --print_config",),
            raw=True,
        ),
        Verb(
            "validate",
            "evaluate a checkpoint on the validation data",
            "featherweight validate --config F --ckpt_path last.ckpt",
            ("featherweight validate --config F --ckpt_path last.ckpt --json",),
            raw=True,
        ),
        Verb(
            "test",
            "evaluate a checkpoint on the test data",
            "featherweight test --config F --ckpt_path last.ckpt",
            ("featherweight test --config F --ckpt_path last.ckpt --json",),
            raw=True,
        ),
    ),
    "analysis": (
        Verb(
            "sensitivity",
            "measure accuracy against sparsity and bits, layer by layer",
            "featherweight sensitivity --config recipes/lenet5-mnist.yaml --weights runs/lenet5-mnist",
            ("featherweight sensitivity -c F --layers 'fc*' --sparsities 0.8,0.9,0.95 --epochs 0,1",),
        ),
        Verb(
            "report",
            "draw a page about a run or a file, to open in a browser",
            "featherweight report runs/lenet300-mnist -o report.html",
            more=("featherweight report model.fwt -o model.html --force",),
        ),
        Verb(
            "compare",
            "set files of one network side by side, with errors of weights",
            "featherweight compare dense.safetensors model.fwt --config run.yaml",
            more=("featherweight compare dense.safetensors small.fwt smaller.fwt --json",),
        ),
    ),
    "files": (
        Verb(
            "compress",
            "turn a checkpoint into a .fwt file, without training",
            "featherweight compress model.safetensors -o model.fwt --sparsity 0.5 --bits 6",
            (
                "featherweight compress model.pt -o model.fwt --bits auto --target-size 100KB",
                "featherweight compress model.pt -o model.fwt --recipe recipe.yaml --json",
                "featherweight compress bert-base-uncased -o bert-small",
            ),
        ),
        Verb(
            "decompress",
            "turn a .fwt file into safetensors",
            "featherweight decompress model.fwt -o model.safetensors",
            ("featherweight decompress model.fwt -o model.safetensors --force --quiet",),
        ),
        Verb(
            "convert",
            "turn a checkpoint, .fwt or .net file into another, or into ONNX",
            "featherweight convert compressed_SqueezeNet.net squeezenet.fwt",
            (
                "featherweight convert model.fwt model.pt",
                "featherweight convert weights.net alexnet.safetensors --layers alexnet",
                "featherweight convert lenet5.fwt lenet5.onnx --config recipes/lenet5-mnist.yaml",
            ),
        ),
        Verb(
            "inspect",
            "show what a .fwt file holds and what each layer costs",
            "featherweight inspect model.fwt",
            ("featherweight inspect model.fwt --json | jq .ratio",),
        ),
        Verb(
            "verify",
            "check every checksum and decode every tensor of a .fwt file",
            "featherweight verify model.fwt",
            ("featherweight verify model.fwt && cp model.fwt release/",),
        ),
        Verb(
            "test-file",
            "measure the accuracy of a .fwt file, straight from the file",
            "featherweight test-file lenet300-mnist.fwt --config recipes/lenet300-mnist.yaml",
            ("featherweight test-file model.fwt -c F --data-root ~/data --json",),
        ),
    ),
    "your shell": (
        Verb(
            "completion",
            "print a script that completes verbs, options and file names",
            "source <(featherweight completion bash)",
            (
                "featherweight completion zsh > ~/.zfunc/_featherweight",
                "featherweight completion fish | source",
            ),
        ),
    ),
}

VERBS: dict[str, Verb] = {verb.name: verb for verbs in GROUPS.values() for verb in verbs}
