"""Hostile inputs with right checksums, for the tests and for ``make fuzz``.

Input ``i`` of a target depends on the seed, the target's name and ``i`` alone, so that every finding can be
made again. The targets follow from the registered coders: a new coder is attacked as soon as it is there.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from forge import CODED, JOINT, coded, seal, split, tensor_file, varints
from samples import as_bytes, small_tensors

from featherweight.coding import CODERS, RAW_CODERS
from featherweight.errors import FormatError
from featherweight.fileformat import FileReader, write_file
from featherweight.fileformat.codebook import encode_codebook
from featherweight.fileformat.directory import dtype_code
from featherweight.tensors import ITEM_SIZES, QuantizedTensor, RawTensor

#: Bytes that a hostile file may claim: far more than any sample holds, and little enough to decode quickly.
BUDGET = 1 << 20


@dataclass(frozen=True)
class Sample:
    """A valid tensor with its payload cut into sections, each of which can be damaged alone."""

    dtype: str
    shape: tuple[int, ...]
    coder_id: int
    sections: dict[str, bytes]

    def file(self, **changes: bytes) -> bytes:
        """The sample as a file, some sections replaced."""
        return tensor_file(
            self.dtype, self.shape, self.coder_id, b"".join((self.sections | changes).values())
        )


def quantized_samples(coder_name: str) -> list[Sample]:
    """Index arrays of every layout: dense, sparse, constant, of a large codebook, of several bit streams."""
    generator = np.random.default_rng(0)
    sparse = np.zeros(300, np.uint8)
    sparse[::7] = np.arange(43) % 5
    dense = np.minimum(generator.geometric(0.5, 60), 5).astype(np.uint8) - 1
    wide = np.minimum(generator.geometric(0.02, 500) - 1, 299).astype(np.uint16)
    long = np.minimum(generator.geometric(0.5, 66_000) - 1, 15).astype(np.uint8)
    arrays = [
        (dense, 5, "float32", "float32"),
        (sparse.reshape(20, 15), 5, "float32", "float16"),
        (sparse, 5, "bfloat16", "bfloat16"),
        (np.full(50, 2, np.uint8), 4, "float64", "float32"),
        (wide, 300, "float16", "float16"),
        (long, 16, "float32", "float16"),
    ]
    arrays += [
        (np.arange(40) % size, size, dtype, stored) for dtype, stored, size in _codebooks_of_every_way()
    ]
    return [_quantized_sample(coder_name, *array) for array in arrays]


def _quantized_sample(coder_name: str, indices, size: int, dtype: str, storage: str | bytes) -> Sample:
    """Codebook; code tables and bit stream, or positions and codes where the layout is sparse.

    Where the sections of a coder meet is not known here, so the cut is by length: a quarter for the tables,
    half for the positions, which come first.
    """
    codebook = storage if isinstance(storage, bytes) else _plain_codebook(size, storage)
    coder = CODERS[coder_name]
    payload = coder.encode(indices.astype(np.uint16 if size > 256 else np.uint8), size)
    is_sparse = np.count_nonzero(indices) < 0.3 * indices.size
    names, cut = (("positions", "codes"), 2) if is_sparse else (("tables", "bitstream"), 4)
    at = len(payload) // cut + 1
    sections = {"codebook": codebook, names[0]: payload[:at], names[1]: payload[at:]}
    return Sample(dtype, indices.shape, coder.id, sections)


def _plain_codebook(size: int, storage: str) -> bytes:
    values = np.arange(size, dtype=np.float32)
    stored = values.view(np.uint32) >> 16 if storage == "bfloat16" else values
    stored = stored.astype("<u2" if storage == "bfloat16" else np.dtype(storage).newbyteorder("<"))
    return varints(size) + bytes([dtype_code(storage)]) + stored.tobytes()


def _codebooks_of_every_way() -> list[tuple[str, bytes, int]]:
    """Codebooks with their dtype and size: floats, multiples of steps, even ones, with and without a zero."""
    values = np.sort(np.random.default_rng(1).normal(size=30)).astype(np.float32)
    multiples = np.array([-9, -4, -3, -2, -1, 1, 2, 3, 5, 8])
    codebooks = [
        (values, "float32"),
        (np.concatenate([[0], values]).astype(np.float64), "float64"),
        (values.astype(np.float16), "float16"),
        ((values.view(np.uint32) >> 16 << 16).view(np.float32), "bfloat16"),
        (multiples.astype(np.float32) / 64, "float32"),
        ((np.concatenate([[0], multiples]) * 0.0123).astype(np.float32), "float32"),
        (np.linspace(-0.3, 0.7, 16).astype(np.float32), "float32"),
    ]
    return [(dtype, encode_codebook(codebook, dtype), codebook.size) for codebook, dtype in codebooks]


def raw_samples(coder_name: str) -> list[Sample]:
    """Byte patterns of every item size; those that a coder declines are left out."""
    generator = np.random.default_rng(0)
    patterns: list[tuple[str, tuple[int, ...], np.ndarray]] = []
    for dtype in ("float32", "int8", "complex128", "bool", "float16"):
        noise = generator.integers(0, 2 if dtype == "bool" else 256, (60, ITEM_SIZES[dtype]), np.uint8)
        for kept in (0.1, 1.0):
            items = np.where(generator.random((60, 1)) < kept, noise, 0).astype(np.uint8)
            patterns.append((dtype, (5, 12), items))
    # Weights whose rows differ in scale, enough of them for each kind of plane.
    weights = generator.normal(size=(32, 72)) * 2.0 ** generator.integers(-6, 1, (32, 1))
    patterns.append(("float32", (32, 72), weights.astype("<f4").view(np.uint8).reshape(-1, 4)))
    bfloat16 = weights.astype("<f4").view("<u4") >> 16
    patterns.append(("bfloat16", (32, 72), bfloat16.astype("<u2").view(np.uint8).reshape(-1, 2)))
    samples = []
    for dtype, shape, items in patterns:
        payload = RAW_CODERS[coder_name].encode(items.reshape(-1), ITEM_SIZES[dtype])
        if payload is not None:
            at = len(payload) // 4 + 1
            sections = {"head": payload[:at], "body": payload[at:]}
            samples.append(Sample(dtype, shape, RAW_CODERS[coder_name].id, sections))
    return samples


#: Makes an input from a generator.
Target = Callable[[np.random.Generator], bytes]


def section_targets() -> dict[str, Target]:
    """A target for every coder and section."""
    samples = {name: quantized_samples(name) for name in CODERS}
    samples |= {f"raw {name}": raw_samples(name) for name in RAW_CODERS}
    targets: dict[str, Target] = {}
    for coder, of_coder in samples.items():
        for section in dict.fromkeys(name for sample in of_coder for name in sample.sections):
            targets[f"{coder}: {section}"] = _section_target(section, of_coder)
    return targets


def _section_target(section: str, samples: list[Sample]) -> Target:
    having = [sample for sample in samples if section in sample.sections]

    def target(generator: np.random.Generator) -> bytes:
        sample = having[generator.integers(0, len(having))]
        return sample.file(**{section: mutate(generator, sample.sections[section])})

    return target


def directory_target(good: bytes) -> Target:
    """Damages the directory of a file that has one of everything."""
    payloads, directory = split(good)
    return lambda generator: seal(payloads, mutate(generator, directory))


def coded_directory_target(good: bytes) -> Target:
    """Damages a directory as it is stored when it is coded, or its flags."""
    payloads, directory = split(good)
    stored = coded(directory)

    def target(generator: np.random.Generator) -> bytes:
        flags = CODED | (JOINT if generator.random() < 0.1 else 0)
        return seal(payloads, mutate(generator, stored), flags)

    return target


def good_file(folder: Path) -> bytes:
    """A file that has one of everything."""
    path = folder / "good.fwt"
    write_file(path, small_tensors(), metadata={"author": "nobody", "epoch": "3"})
    return path.read_bytes()


def structured_targets(folder: Path) -> dict[str, Target]:
    """Every target of mutation; ``folder`` takes a file in passing."""
    good = good_file(folder)
    return {
        "directory": directory_target(good),
        "coded directory": coded_directory_target(good),
        **section_targets(),
    }


def noise(generator: np.random.Generator) -> bytes:
    """Random bytes: as they are, after a right header, or sealed with a right checksum."""
    data = generator.bytes(int(generator.integers(0, 200)))
    kind = generator.integers(0, 3)
    if kind == 0:
        return data
    if kind == 1:
        return b"\x89FWT\0" + data
    return seal(data[: len(data) // 3], data[len(data) // 3 :])


def mutate(generator: np.random.Generator, data: bytes) -> bytes:
    """Change, insert, remove or repeat some bytes, one to three times."""
    changed = bytearray(data)
    for _ in range(generator.integers(1, 4)):
        at = int(generator.integers(0, len(changed) + 1))
        kind = generator.integers(0, 6)
        if kind == 0:
            changed[at : at + 1] = generator.bytes(1)
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << int(generator.integers(0, 8))
        elif kind == 2:
            changed[at:at] = generator.bytes(int(generator.integers(1, 4)))
        elif kind == 3:
            del changed[at : at + int(generator.integers(1, 4))]
        elif kind == 4:
            changed[at:at] = changed[at : at + int(generator.integers(1, 20))]
        else:
            changed[at : at + 2] = generator.choice([b"\xff\xff", b"\0\0", b"\x80\x01", b"\x7f\x7f"])
    return bytes(changed)


def generator_of(seed: int, target: str, number: int) -> np.random.Generator:
    """The generator of one input."""
    return np.random.default_rng([seed, zlib.crc32(target.encode()), number])


def check(path: Path, data: bytes, *, again: bool = True) -> bool:
    """Whether a file is accepted; raises unless it holds valid tensors, or is refused as it should be.

    Args:
        path: where the file is put.
        data: its bytes.
        again: whether what is accepted is also described, written and read again.
    """
    path.write_bytes(data)
    try:
        with FileReader(path, max_bytes=BUDGET) as reader:
            reader.check_total()
            tensors = {name: reader.read(name) for name in reader.names}
            infos = [reader.info(name) for name in reader.names]
            described = [reader.describe(name) for name in reader.names] if again else []
    except FormatError as error:
        message = str(error)
        assert message.startswith(f"{path}: "), message
        assert ";" in message, f"{message!r} does not say what to do"
        assert "\n" not in message, message
        return False
    for info, tensor in zip(infos, tensors.values(), strict=True):
        _check_valid(tensor)
        assert (info.dtype, info.shape) == (tensor.dtype, tensor.shape)
        assert info.quantized == isinstance(tensor, QuantizedTensor)
    if again:
        assert [sizes is not None for sizes in described] == [info.quantized for info in infos]
        _check_round_trip(path, tensors)
    return True


def _check_valid(tensor: RawTensor | QuantizedTensor) -> None:
    elements = as_bytes(tensor)[2]
    assert len(elements) == ITEM_SIZES[tensor.dtype] * tensor.numel
    if isinstance(tensor, QuantizedTensor):
        assert np.isfinite(tensor.codebook).all()
        assert not tensor.numel or int(tensor.indices.max()) < tensor.codebook.size
    elif tensor.dtype == "bool":
        assert not tensor.numel or int(tensor.data.max()) <= 1


def _check_round_trip(path: Path, tensors: dict[str, RawTensor | QuantizedTensor]) -> None:
    write_file(path, tensors)
    with FileReader(path) as reader:
        again = {name: as_bytes(reader.read(name)) for name in reader.names}
    assert again == {name: as_bytes(tensor) for name, tensor in tensors.items()}
