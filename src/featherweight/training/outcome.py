"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What a run came to; errors are of the test set, the compressed one's straight from the file.

    Attributes:
        name: of the run.
        model: class of the network.
        dataset: name of the data set.
        error_dense_percent: top-1 error of the network after ``fit``; ``None`` where it had no epochs, and
            the network was pruned from scratch.
        error_percent: top-1 error of the network in the file.
        bytes: size of the file.
        dense_bytes: size of the tensors of the network after ``fit``, each at its own dtype.
        ratio: dense_bytes / bytes.
        ratio_h: Han's accounting: weight codes, position codes and codebooks.
        ratio_n: weights over nonzero weights.
        seconds: spent in all phases.
        seed: of the run.
        command: makes it again.
        file: the compressed file, relative to the result.
    """

    name: str
    model: str
    dataset: str
    error_dense_percent: float | None
    error_percent: float
    bytes: int
    dense_bytes: int
    ratio: float
    ratio_h: float
    ratio_n: float
    seconds: float
    seed: int
    command: str
    file: str


@dataclass(frozen=True)
class Validation:
    """What a run came to that has not looked at the test set: what choices are made by.

    Attributes:
        name: of the run.
        dataset: name of the data set.
        images: of the validation split.
        error_dense_percent: top-1 error on them of the network after ``fit``; ``None`` where it had no
            epochs.
        error_percent: top-1 error on them of the network in the file.
        bytes: size of the file.
        dense_bytes: size of the tensors of the network after ``fit``.
        ratio: dense_bytes / bytes.
        seconds: spent in all phases.
        seed: of the run.
        file: the compressed file, relative to the result.
    """

    name: str
    dataset: str
    images: int
    error_dense_percent: float | None
    error_percent: float
    bytes: int
    dense_bytes: int
    ratio: float
    seconds: float
    seed: int
    file: str
