"""Runs the kernel of ``context`` in plain Python with every access to memory checked, in its own process.

The kernel works on addresses, which nothing checks. Here, what :mod:`featherweight.coding.memory_kernels`
offers is replaced by the same on arrays that refuse an index that is out of bounds, and integers that
overflow are an error. Reads jobs as JSON and prints what came of each:
``[payload in hex, shape, codebook size]`` -> the indices' digest, or why the payload was refused.
"""

import hashlib
import json
import sys
from types import ModuleType

import numpy as np

from featherweight.coding import machine_code

#: How far from the end of the states the last one was that was touched, in any job.
nearest = {}


class Guarded:
    """An array in place of an address."""

    def __init__(self, array):
        self.array = array

    def at(self, index):
        index = int(index)
        if not 0 <= index < self.array.size:
            raise IndexError(f"{index} is outside of {self.array.size} elements of {self.array.dtype}")
        size = self.array.size
        nearest[self.array.dtype.name, size] = min(
            nearest.get((self.array.dtype.name, size), size), size - 1 - index
        )
        return index


def getter(dtype):
    def get(guarded, index):
        assert guarded.array.dtype == dtype
        return np.int64(guarded.array[guarded.at(index)])

    return get


def setter(dtype):
    bits = 8 * np.dtype(dtype).itemsize

    def put(guarded, index, value):
        assert guarded.array.dtype == dtype
        low = int(value) & ((1 << bits) - 1)
        guarded.array[guarded.at(index)] = np.array(low, np.uint64).astype(dtype)

    return put


def guard():
    """Put checked access in the place of addresses, before the kernel is imported."""
    module = ModuleType("featherweight.coding.memory_kernels")
    for name, dtype in {
        "u8": np.uint8,
        "u16": np.uint16,
        "u32": np.uint32,
        "i16": np.int16,
        "i32": np.int32,
        "i64": np.int64,
    }.items():
        setattr(module, f"get_{name}", getter(dtype))
        setattr(module, f"set_{name}", setter(dtype))
    sys.modules[module.__name__] = module
    machine_code.address_of = Guarded
    np.seterr(all="raise")


def outcome(payload, shape, codebook_size):
    """What decoding gives, to be compared with what the compiled kernel gives."""
    from featherweight.coding import CODERS
    from featherweight.errors import FormatError

    try:
        indices = CODERS["context"].decode(np.frombuffer(payload, np.uint8), tuple(shape), codebook_size)
    except FormatError as error:
        return str(error)
    return hashlib.sha256(indices.astype("<u2").tobytes()).hexdigest()


def main():
    guard()
    results = [outcome(bytes.fromhex(payload), *rest) for payload, *rest in json.load(sys.stdin)]
    left = min((left for (dtype, _), left in nearest.items() if dtype == "uint32"))
    json.dump({"results": results, "left": left}, sys.stdout)


if __name__ == "__main__":
    main()
