"""A decoder of .fwt files written from docs/format.md alone, in plain Python, bit by bit. Slow on purpose."""

import math
import struct
import zlib

import plain_context_decoder
from plain_codebooks import ascending_codebook
from plain_range import adaptive_words, range_coded_string
from plain_streams import STREAMS, Bytes, rans_stream

DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64"]
DTYPES += ["complex128", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
SIZES = [8, 4, 2, 2, 1, 1, 8, 16, 1, 2, 4, 8, 1, 2, 4, 8, 1]
STRUCTS = {"float64": "d", "float32": "f", "float16": "e"}


CONTEXT = 19
CODERS = {*STREAMS, CONTEXT}


def index_array(source, numel, k, coder):
    stream = STREAMS[coder]
    r = source.u8()
    if r == 0:
        return stream(source, numel, k)
    entries = source.varint()
    gaps = stream(source, entries, 2**r)
    codes = stream(source, entries, k)
    indices, position = [0] * numel, -1
    for gap, code in zip(gaps, codes, strict=True):
        position += gap + 1
        indices[position] = code
    return indices


def context_array(source, shape, k):
    numel = math.prod(shape)
    if numel == 0:
        return []
    flags = source.u8()
    if flags == 1:
        return [source.varint()] * numel
    assert flags in (0, 2, 4, 6)
    negative, lag, inner, guess = source.varint(), source.varint(), source.varint(), source.u8()
    transposed = flags & 2
    width = 1024 if len(shape) < 2 else shape[0] if transposed else numel // shape[0]
    width = min(1024, numel) if width > 65536 or len(shape) < 2 else width
    assert not transposed or (len(shape) >= 2 and shape[0] <= 65536)
    assert negative < k
    assert 1 <= inner <= lag <= min(width, 4096)
    assert guess > 0
    size = max(1, plain_context_decoder.BLOCK // width) * width
    starts = range(0, numel, size)
    lengths = [source.varint() for _ in starts[1:]]
    lengths.append(len(source.data) - source.at - sum(lengths))
    indices = []
    for start, length in zip(starts, lengths, strict=True):
        elements = min(size, numel - start)
        plan = (width, lag, inner, negative, k - 1 - negative, bool(flags & 4), guess)
        levels = plain_context_decoder.decode_block(source.take(length), elements, *plan)
        indices += [v + negative + (v < 0) if v else 0 for v in levels]
    if transposed:
        return [indices[column * width + row] for row in range(width) for column in range(numel // width)]
    return indices


def plane(source, count):
    kind = source.u8()
    assert kind <= 2
    if kind < 2:
        return rans_stream(source, count, 256) if kind else source.take(count)
    return matrix(source, count, source.u8(), source.u8())


def matrix(source, count, greatest, least):
    width = source.varint()
    inner = Bytes(source.take(source.varint()))
    indices = context_array(inner, (count // width, width), greatest - least + 1)
    assert count % width == 0
    assert inner.at == len(inner.data)
    return [greatest - index for index in indices]


def long_matrix(source, count):
    bits = source.u8()
    greatest, least = (source.u8() | source.u8() << 8 for _ in range(2))
    assert 0 < bits < 8
    assert greatest < 1 << 8 + bits
    symbols = matrix(source, count, greatest, least)
    rest = int.from_bytes(bytes(source.take(-(-count * (8 - bits) // 8))), "little")
    assert rest >> count * (8 - bits) == 0
    mask = (1 << 8 - bits) - 1
    low = [(s << 8 - bits) & 255 | rest >> i * (8 - bits) & mask for i, s in enumerate(symbols)]
    return [s >> bits for s in symbols], low


def planes(source, size, width):
    count = size // width
    rows = []
    if width > 1 and source.data[source.at : source.at + 1] == b"\3":
        source.at += 1
        rows = long_matrix(source, count)
    rows = [*rows, *(plane(source, count) for _ in range(width - len(rows)))]
    if width == 1:
        return bytes(rows[0])
    words = (int.from_bytes(bytes(word), "big") for word in zip(*rows, strict=True))
    return b"".join((w >> 1 | (w & 1) << (8 * width - 1)).to_bytes(width, "little") for w in words)


def codebook_values(data, storage):
    if storage == "bfloat16":
        data = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))
        storage = "float32"
    letter = STRUCTS[storage]
    return [value for (value,) in struct.iter_unpack("<" + letter, data)]


def tensor_bytes(source, dtype, shape, coder):
    """The elements of a tensor as little-endian bytes."""
    size, numel = SIZES[dtype], math.prod(shape)
    if coder == 0:
        return source.take(numel * size)
    if coder == 1:
        mask = index_array(Bytes(source.text()), numel, 2, 17)
        return b"".join(source.take(size) if kept else bytes(size) for kept in mask)
    if coder == 2:
        return planes(source, numel * size, min(size, 8))
    if coder == 3:
        return adaptive_words(source, numel, size)
    k, way = source.varint(), source.u8()
    if way < 128:
        values = codebook_values(source.take(k * SIZES[way]), DTYPES[way])
    else:
        values = ascending_codebook(source, k, way, DTYPES[dtype])
    if DTYPES[dtype] == "bfloat16":
        items = [struct.pack("<f", value)[2:] for value in values]
    else:
        items = [struct.pack("<" + STRUCTS[DTYPES[dtype]], value) for value in values]
    if coder == CONTEXT:
        return b"".join(items[i] for i in context_array(source, shape, k))
    return b"".join(items[i] for i in index_array(source, numel, k, coder))


COMMON = """bn1.bias 64; bn1.num_batches_tracked; bn1.running_mean 64; bn1.running_var 64; bn1.weight 64
classifier.bias 10; classifier.weight 10 128; conv1.bias 20; conv1.weight 20 1 5 5; conv2.bias 50
conv2.weight 50 20 5 5; fc1.bias 300; fc1.weight 300 784; fc2.bias 100; fc2.weight 100 300; fc3.bias 10
fc3.weight 10 100; head.bias 1000; layer1.0.conv1.weight 64 64 3 3; linear.bias 10; linear.weight 10 64"""


def varint(number):
    return bytes([number]) if number < 128 else bytes([number % 128 + 128]) + varint(number // 128)


def primer():
    """A directory without checksums."""
    lines = [line.split() for line in COMMON.replace("\n", ";").split(";")]
    data, before = varint(0) + varint(len(lines)), ""
    for name, *shape in lines:
        same = max(i for i in range(len(name)) if before[:i] == name[:i])
        data += varint(same) + varint(len(name) - same) + name[same:].encode() + b"\1" + varint(len(shape))
        data += b"".join(varint(int(dimension)) for dimension in shape) + varint(19 if len(shape) > 1 else 3)
        data, before = data + varint(0), name
    return data


def decode(data):
    """Metadata, and (dtype, shape, bytes) by name."""
    assert data[:5] == b"\x89FWT\0"
    word, checksum = struct.unpack("<II", data[-8:])
    length, joint, coded = word % 2**30, word & 2**30, word & 2**31
    directory, payloads = data[-8 - length : -8], Bytes(data[5 : -8 - length])
    assert zlib.crc32(data[:5] + (payloads.data if joint else b"") + directory + data[-8:-4]) == checksum
    assert not joint or len(payloads.data) <= 2**20
    if coded:
        source = Bytes(directory)
        size = source.varint()
        assert size <= 4096
        directory = range_coded_string(directory[source.at :], size, primer())
    source = Bytes(directory)
    metadata = {source.text().decode(): source.text().decode() for _ in range(source.varint())}
    tensors, names, name = {}, [], b""
    for _ in range(source.varint()):
        name = name[: source.varint()] + source.text()
        dtype = source.u8()
        shape = tuple(source.varint() for _ in range(source.varint()))
        coder = source.u8()
        if coder == 255:
            tensors[name] = source.varint()
        else:
            payload = payloads.take(source.varint())
            assert joint or zlib.crc32(payload) == struct.unpack("<I", source.take(4))[0]
            inner = Bytes(payload)
            tensors[name] = (DTYPES[dtype], shape, tensor_bytes(inner, dtype, shape, coder))
            assert inner.at == len(payload)
        names.append(name)
    assert source.at == len(directory)
    assert payloads.at == len(payloads.data)
    return metadata, {n.decode(): tensors[names[t]] if isinstance(t, int) else t for n, t in tensors.items()}
