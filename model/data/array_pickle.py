"""Read NumPy arrays from untrusted pickles without unpickling them.

A pickle is a program: unpickling imports and calls the functions that the pickle names. OpenGait stores silhouettes in
pickles, and the original code (AbnerHqC/GaitSet) stores partitions in pickles.

This module executes only the few opcodes that pickles of arrays contain, and calls no function. In place of each call,
the module creates a `Call` object that describes the call. The description is checked, and the array is built from the
checked values. NumPy's functions in the pickle are not called either, because NumPy reads and writes memory outside the
array if the data type is wrong.
"""

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_OPCODES = 1 << 20  # an array has about thirty opcodes, a partition has a few opcodes per subject


@dataclass
class Call:
    """A call that unpickling would make: the function, its arguments, and the state that the result would get."""

    name: str
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class Global:
    """An object that unpickling would import."""

    name: str


_MARK = object()


def read_array(data: bytes) -> np.ndarray | list:
    """Return the uint8 array in a pickle, or an array of objects as nested lists.

    Raises ValueError if the pickle is damaged, contains anything else, or claims more data than it has.
    """
    return _build_array(_describe(data))


def _describe(data: bytes) -> Any:
    """Return the content of a pickle as values, tuples, lists and Calls. Raises ValueError."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if number > MAX_OPCODES:
                raise ValueError(f"more than {MAX_OPCODES} opcodes, far more than an array has")
            if opcode.name == "STOP":
                if len(stack) != 1:
                    raise ValueError(f"damaged ({len(stack)} values at its end, expected 1)")
                return stack[0]
            _execute(opcode.name, argument, stack, memo)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error
    raise AssertionError("genops raises a ValueError if there is no STOP")


def _execute(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Execute an opcode. A call only pushes its description to the stack.

    Raises ValueError for opcodes that pickles of arrays do not contain.
    """
    if name in _PUSH:
        stack.append(_PUSH[name](stack, argument))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _pop_to_mark(stack)
        stack[-1].extend(items)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    elif name not in ("PROTO", "FRAME"):
        raise ValueError(f"it contains the opcode {name}, which arrays do not have")


def _pop(stack: list[Any], count: int) -> tuple:
    """Remove and return the last `count` items. Raises IndexError if the stack has fewer items."""
    return tuple([stack.pop() for _ in range(count)][::-1])


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    """Remove and return the items after the last mark, and remove the mark. Raises IndexError if there is no mark."""
    mark = len(stack) - 1
    while stack[mark] is not _MARK:
        mark -= 1
    items = stack[mark + 1 :]
    del stack[mark:]
    return items


def _call(called: Any, arguments: Any) -> Call:
    if not isinstance(called, Global) or called.name not in _ALLOWED:
        raise ValueError(f"it would call {_short(called)}")
    return Call(called.name, arguments)


# Opcodes that push one value. Each function computes the value from the stack, from which it may remove items, and from
# the argument of the opcode.
_PUSH: dict[str, Callable[[list, Any], Any]] = {
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
         "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), lambda stack, value: value),
    "NONE": lambda stack, _: None, "NEWTRUE": lambda stack, _: True, "NEWFALSE": lambda stack, _: False,
    "MARK": lambda stack, _: _MARK,
    "EMPTY_TUPLE": lambda stack, _: (), "TUPLE1": lambda stack, _: _pop(stack, 1),
    "TUPLE2": lambda stack, _: _pop(stack, 2), "TUPLE3": lambda stack, _: _pop(stack, 3),
    "TUPLE": lambda stack, _: tuple(_pop_to_mark(stack)),
    "EMPTY_LIST": lambda stack, _: [], "LIST": lambda stack, _: _pop_to_mark(stack),
    "GLOBAL": lambda stack, name: Global(name.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda stack, _: Global("{}.{}".format(*_pop(stack, 2))),
    "REDUCE": lambda stack, _: _call(*_pop(stack, 2)),
}  # fmt: skip

# The functions that pickles of arrays name, for NumPy 1 and 2 and for all protocols.
_CORES = ("numpy.core", "numpy._core")
_RECONSTRUCT = {f"{core}.multiarray._reconstruct" for core in _CORES}
_FROM_BUFFER = {f"{core}.numeric._frombuffer" for core in _CORES}
_DTYPE, _ENCODE = "numpy.dtype", "_codecs.encode"
_NO_BYTES = {"__builtin__.bytes", "builtins.bytes"}  # older protocols write b"" as a call of bytes()
_ALLOWED = {*_RECONSTRUCT, *_FROM_BUFFER, *_NO_BYTES, _DTYPE, _ENCODE}


def _build_array(value: Any) -> np.ndarray | list:
    """Build an array from its description. Raises ValueError if the array is not a valid array of uint8 or objects."""
    try:
        content, dtype, shape, order, axes = _parts_of(value)
        type_name, shape = _type_of(dtype), tuple(shape)
        if not all(type(size) is int and size >= 0 for size in (*shape, *(axes or ()))):
            raise ValueError("its shape is damaged")
        if type_name == "O":
            return _nested(content, shape, order)
        if type_name not in ("u1", "uint8", "|u1", "B"):
            raise ValueError(f"its values have the type {type_name!r}, expected uint8")
        content = _bytes_of(content)
        if len(content) != math.prod(shape):
            raise ValueError(f"it has {len(content)} bytes but claims the shape {list(shape)[:8]}")
        array = np.frombuffer(content, np.uint8).reshape(shape, order=order)
        return array if axes is None else array.transpose(axes)
    except (TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error


def _parts_of(value: Any) -> tuple[Any, Any, Any, str, Any]:
    """Return content, type, shape, memory order (C or F) and the permutation of the axes.

    The permutation is None if the array is stored in C or F order.
    """
    if isinstance(value, Call) and value.name in _RECONSTRUCT:
        shape, dtype, by_columns, content = value.state[-4:]
        return content, dtype, shape, "F" if by_columns else "C", None
    if isinstance(value, Call) and value.name in _FROM_BUFFER:
        content, dtype, shape, order, *axes = value.arguments
        return content, dtype, shape, "F" if order == "F" else "C", axes[0] if axes else None
    raise ValueError(f"it is {_short(value)}, expected an array")


def _type_of(dtype: Any) -> str:
    """Return the type code in the description of a data type. All object types have the code O."""
    if not isinstance(dtype, Call) or dtype.name != _DTYPE:
        raise ValueError("its type is damaged")
    code = dtype.arguments[0]
    if not isinstance(code, str) or len(code) > 20:
        raise ValueError("its type is damaged")
    return "O" if code in ("O", "O8", "|O", "object") else code


def _bytes_of(content: Any) -> bytes:
    """Return the content as bytes. Older protocols have no type for bytes and store them as encoded text."""
    if isinstance(content, Call) and content.name == _ENCODE:
        text, encoding = content.arguments
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"its bytes have the encoding {encoding!r:.20}, expected latin1")
        content = text.encode("latin1")
    elif isinstance(content, Call) and content.name in _NO_BYTES and content.arguments == ():
        content = b""
    if not isinstance(content, bytes | bytearray):
        raise ValueError(f"its content is {_short(content)}, expected bytes")
    return content


def _nested(content: Any, shape: tuple[int, ...], order: str) -> list:
    """Return the list of objects as nested lists, one level per axis."""
    if not isinstance(content, list) or order != "C" or not 1 <= len(shape) <= 2 or len(content) != math.prod(shape):
        raise ValueError("it is an array of objects, but not a list of lists")
    if len(shape) == 1:
        return content
    rows, columns = shape
    return [content[row * columns : (row + 1) * columns] for row in range(rows)]


def _short(value: Any) -> str:
    """Return a short description of a value for messages."""
    return value.name[:60] if isinstance(value, Global | Call) else f"a {type(value).__name__}"
