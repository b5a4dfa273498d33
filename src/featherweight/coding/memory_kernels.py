"""Plain memory for kernels: numbers at an address, for loops that pass arrays to functions of their own.

Numba counts the references to an array wherever one is passed on, which takes longer than what the functions
of ``context`` do with it. An address is but a number. Nobody checks it: the caller owns the array for as long
as the address is in use, and indices are in its bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I64 = ir.IntType(64)


def _element(builder: Any, arguments: Any, bits: int) -> Any:
    pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
    return builder.gep(pointer, [arguments[1]])


def _getter(bits: int, *, signed: bool) -> Any:
    """A function ``(address, index) -> int64`` for numbers of so many bits."""

    def typed(typing: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(_element(builder, arguments, bits))
            return builder.sext(value, _I64) if signed else builder.zext(value, _I64)

        return types.int64(types.int64, types.int64), generate

    return intrinsic(typed)


def _setter(bits: int) -> Any:
    """A function ``(address, index, value)`` that writes the low bits of a value."""

    def typed(typing: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            low = builder.trunc(arguments[2], ir.IntType(bits))
            builder.store(low, _element(builder, arguments, bits))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return intrinsic(typed)


get_u8, get_u16, get_u32 = (_getter(bits, signed=False) for bits in (8, 16, 32))
get_i16, get_i32 = (_getter(bits, signed=True) for bits in (16, 32))
set_u8, set_u32, set_i32, set_i64 = (_setter(bits) for bits in (8, 32, 32, 64))
