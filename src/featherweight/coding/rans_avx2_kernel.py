"""Eight lanes of a ``rans`` stream in one AVX2 register, for the usual tables: 12 bits, symbols of a byte.

Numba compiles no vector code that gathers and permutes, so one step of eight lanes is written in LLVM's own
terms. Everything else, and every other processor, goes through :mod:`featherweight.coding.rans_kernels`,
which gives the same symbols.

A table entry is ``share << 20 | place << 8 | symbol``. After a step, the lanes that fell below 2¹⁶ take a
word each, in order: the words that come next are loaded all at once and permuted so that each such lane has
its own, by a table, or by one instruction where the processor has AVX-512 (a fifth faster). F. Giesen, "SIMD
interleaved entropy coding", https://github.com/rygorous/ryg_rans.
"""

from __future__ import annotations

import os
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: Bits of the only scale that this decodes.
SCALE = 12
_SLOT_MASK = (1 << SCALE) - 1

_WIDTH = 8
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _HALVES, _VECTOR = (ir.VectorType(kind, _WIDTH) for kind in (_I8, _I16, _I32))

#: By which lanes take a word, as bits: the number of lanes before each that do, ``(256 * 8,)``.
TURNS = np.array(
    [(mask & ((1 << lane) - 1)).bit_count() for mask in range(256) for lane in range(_WIDTH)], np.uint8
)


def is_supported() -> bool:
    """Whether this processor has AVX2, and Numba compiles for it and for no other."""
    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("avx2", False))


def can_expand() -> bool:
    """Whether one instruction (AVX-512's ``vpexpandd``) hands words to those lanes that take one."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512vl", False))


def _splat(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * _WIDTH)


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


def _load(builder: Any, pointer: Any, kind: Any) -> Any:
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)


def _look_up(builder: Any, table: Any, slots: Any, scratch: Any) -> Any:
    """Table entries of eight slots, one load each: AVX2's own gather is slow where it is made safe.

    The slots go through memory, as taking them out of a register one by one would cost more; a load that is
    called atomic keeps the compiler from doing just that.
    """
    builder.store(slots, builder.bitcast(scratch, _VECTOR.as_pointer()), align=1)
    entries = ir.Constant(_VECTOR, ir.Undefined)
    for lane in range(_WIDTH):
        slot = builder.load_atomic(builder.gep(scratch, [ir.Constant(_I64, lane)]), "monotonic", 4)
        entry = builder.load(builder.gep(table, [builder.zext(slot, _I64)]))
        entries = builder.insert_element(entries, entry, ir.Constant(_I32, lane))
    return entries


@intrinsic
def _decode_eight(typing: Any, arrays: Any, lane: Any, at: Any, i: Any) -> Any:
    """Decode a symbol in each of eight lanes; return the number of the next word.

    Args:
        typing: Numba's.
        arrays: block, states, table, turns, symbols, scratch.
        lane: the first of eight states to update.
        at: the first of eight words to read.
        i: where to write the first of eight symbols.
    """
    signature = types.uint64(arrays, types.uint64, types.uint64, types.uint64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tuple_, lane, at, i = arguments
        data, states, table, turns, out, scratch = (
            context.make_array(kind)(context, builder, builder.extract_value(tuple_, number)).data
            for number, kind in enumerate(signature.args[0])
        )
        here = builder.bitcast(builder.gep(states, [lane]), _VECTOR.as_pointer())
        x = builder.load(here, align=1)
        slots = builder.and_(x, _splat(_SLOT_MASK))
        entries = _look_up(builder, table, slots, builder.gep(scratch, [lane]))
        symbols = builder.trunc(entries, _BYTES)
        builder.store(symbols, builder.bitcast(builder.gep(out, [i]), _BYTES.as_pointer()), align=1)
        words = _load(builder, builder.gep(data, [builder.shl(at, ir.Constant(_I64, 1))]), _HALVES)
        x, mask = _advance(builder, x, entries, words, turns)
        builder.store(x, here, align=1)
        return builder.add(at, _call(builder, "llvm.ctpop.i64", _I64, [mask]))

    return signature, generate


#: As Numba's compiler sees it: without the first argument.
_step: Any = _decode_eight


def _advance(builder: Any, x: Any, entries: Any, words: Any, turns: Any) -> tuple[Any, Any]:
    """The states after a symbol each, and as bits which took a word."""
    places = builder.and_(builder.lshr(entries, _splat(8)), _splat(_SLOT_MASK))
    wholes = builder.mul(builder.lshr(entries, _splat(20)), builder.lshr(x, _splat(SCALE)))
    x = builder.add(wholes, places)
    low = builder.icmp_unsigned("<", x, _splat(1 << 16))
    mask = builder.zext(builder.bitcast(low, _I8), _I64)
    words = builder.zext(words, _VECTOR)
    if can_expand():
        own = _call(builder, "llvm.x86.avx512.mask.expand.v8i32", _VECTOR, [words, _splat(0), low])
    else:
        turn = _load(builder, builder.gep(turns, [builder.shl(mask, ir.Constant(_I64, 3))]), _BYTES)
        own = _call(builder, "llvm.x86.avx2.permd", _VECTOR, [words, builder.zext(turn, _VECTOR)])
    return builder.select(low, builder.or_(builder.shl(x, _splat(16)), own), x), mask


@njit(cache=True, nogil=True)
def decode_rounds(data: Any, states: Any, table: Any, turns: Any, out: Any) -> Any:
    """Decode rounds of 32 lanes while there are words for each; return how many symbols, and the next word.

    Args:
        data: the block from its states on, and perhaps more, ``uint8``.
        states: ``(32,)``, ``uint32``; changed.
        table: ``(4096,)``, ``uint32``.
        turns: :data:`TURNS`.
        out: where the symbols go, ``uint8``.
    """
    scratch = np.empty(32, np.uint32)
    arrays = data, states, table, turns, out, scratch
    i, at = np.uint64(0), np.uint64(64)
    symbols, words = np.uint64(out.size), np.uint64(data.size // 2)
    while i + np.uint64(32) <= symbols and at + np.uint64(32) <= words:
        at = _step(arrays, np.uint64(0), at, i)
        at = _step(arrays, np.uint64(8), at, i + np.uint64(8))
        at = _step(arrays, np.uint64(16), at, i + np.uint64(16))
        at = _step(arrays, np.uint64(24), at, i + np.uint64(24))
        i += np.uint64(32)
    return np.int64(i), np.int64(at)
