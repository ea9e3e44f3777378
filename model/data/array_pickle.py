"""Numpy arrays out of pickles from elsewhere, without unpickling them.

A pickle is a program; what it names is imported and called with what it says. OpenGait keeps silhouettes in such
files, the original tool its partitions. Here the few operations that an array is made of build a description of the
calls, nothing is called, and the array is made from the description by us. Not even numpy's own part is left to the
pickle: a data type that it describes falsely lets numpy read and write memory that is not the array's.
"""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_OPERATIONS = 1 << 20  # an array takes about thirty, a partition a few a subject


@dataclass
class Call:
    """What a pickle would have called, with what, and what it would have set in the result."""

    name: str
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class Name:
    """What a pickle would have imported."""

    name: str


_MARK = object()
_VALUES = {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NOTHING = {"PROTO", "FRAME"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_array(data: bytes) -> np.ndarray | list:
    """The uint8 array in a pickle, or of an array of objects their list (nested like its axes).

    Raises ValueError for what is damaged, holds anything else, or claims more than it has.
    """
    return array_of(described(data))


def described(data: bytes) -> Any:
    """The description of what a pickle holds: plain values, tuples, lists and Calls. Raises ValueError."""
    stack: list[Any] = []
    kept: dict[int, Any] = {}
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if number > MOST_OPERATIONS:
                raise ValueError("far more in it than an array takes")
            if operation.name == "STOP":
                if len(stack) != 1:
                    raise ValueError("damaged (it ends too early or too late)")
                return stack[0]
            _do(operation.name, argument, stack, kept)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error
    raise AssertionError("genops raises a ValueError where no STOP comes")


def _do(name: str, argument: Any, stack: list[Any], kept: dict[int, Any]) -> None:
    if name in _VALUES:
        stack.append(_CONSTANTS.get(name, argument))
    elif name in _TUPLES:
        count = _TUPLES[name]
        items = [stack.pop() for _ in range(count)]
        stack.append(tuple(reversed(items)))
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "TUPLE":
        stack.append(tuple(_to_mark(stack)))
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name == "LIST":
        stack.append(_to_mark(stack))
    elif name == "APPEND":
        item = stack.pop()
        stack[-1].append(item)
    elif name == "APPENDS":
        items = _to_mark(stack)
        stack[-1].extend(items)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        kept[argument] = stack[-1]
    elif name == "MEMOIZE":
        kept[len(kept)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(kept[argument])
    elif name == "GLOBAL":
        stack.append(Name(argument.replace(" ", ".", 1)))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(Name(f"{module}.{attribute}"))
    elif name == "REDUCE":
        arguments, called = stack.pop(), stack.pop()
        if not isinstance(called, Name) or called.name not in _KNOWN:
            raise ValueError(f"it would run {_short(called)}")
        stack.append(Call(called.name, arguments))
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    elif name not in _NOTHING:
        raise ValueError(f"it holds what no array does ({name})")


def _to_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _MARK:  # an IndexError where there is none
        place -= 1
    items = stack[place + 1 :]
    del stack[place:]
    return items


# Whatever numpy, 1 or 2, and whatever protocol of pickle.
_CORES = ("numpy.core", "numpy._core")
_RECONSTRUCT = {f"{core}.multiarray._reconstruct" for core in _CORES}
_FROM_BUFFER = {f"{core}.numeric._frombuffer" for core in _CORES}
_DTYPE, _ENCODE = "numpy.dtype", "_codecs.encode"
_NO_BYTES = {"__builtin__.bytes", "builtins.bytes"}  # how older protocols write b""
_KNOWN = {*_RECONSTRUCT, *_FROM_BUFFER, *_NO_BYTES, _DTYPE, _ENCODE}


def array_of(value: Any) -> np.ndarray | list:
    """Make what `described` tells of. Raises ValueError for anything but an array of bytes or of objects."""
    try:
        content, dtype, shape, order, axes = _parts_of(value)
        kind, shape = _kind_of(dtype), tuple(shape)
        if not all(type(size) is int and size >= 0 for size in (*shape, *(axes or ()))):
            raise ValueError("its shape is damaged")
        if kind == "O":
            return _nested(content, shape, order)
        if kind not in ("u1", "uint8", "|u1", "B"):
            raise ValueError(f"its values are {kind!r}, not bytes")
        content = _bytes_of(content)
        if len(content) != math.prod(shape):
            raise ValueError(f"it has {len(content)} bytes and claims the shape {list(shape)[:8]}")
        array = np.frombuffer(content, np.uint8).reshape(shape, order=order)
        return array if axes is None else array.transpose(axes)
    except (TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error


def _parts_of(value: Any) -> tuple[Any, Any, Any, str, Any]:
    """Content, type, shape, order (C or F) and, where the order is neither, the order of axes."""
    if isinstance(value, Call) and value.name in _RECONSTRUCT:
        shape, dtype, by_columns, content = value.state[-4:]
        return content, dtype, shape, "F" if by_columns else "C", None
    if isinstance(value, Call) and value.name in _FROM_BUFFER:
        content, dtype, shape, order, *axes = value.arguments
        return content, dtype, shape, "F" if order == "F" else "C", axes[0] if axes else None
    raise ValueError(f"it is no array but {_short(value)}")


def _kind_of(dtype: Any) -> str:
    if not isinstance(dtype, Call) or dtype.name != _DTYPE:
        raise ValueError("its type is damaged")
    kind = dtype.arguments[0]
    if not isinstance(kind, str) or len(kind) > 20:
        raise ValueError("its type is damaged")
    return "O" if kind in ("O", "O8", "|O", "object") else kind


def _bytes_of(content: Any) -> bytes:
    """Older protocols have no bytes: those are text, to be encoded."""
    if isinstance(content, Call) and content.name == _ENCODE:
        text, encoding = content.arguments
        if encoding not in ("latin1", "latin-1"):
            raise ValueError("its bytes are encoded in an unknown way")
        content = text.encode("latin1")
    elif isinstance(content, Call) and content.name in _NO_BYTES and content.arguments == ():
        content = b""
    if not isinstance(content, bytes | bytearray):
        raise ValueError("its content is no bytes")
    return content


def _nested(content: Any, shape: tuple[int, ...], order: str) -> list:
    """A list of objects as lists in lists."""
    if not isinstance(content, list) or order != "C" or not 1 <= len(shape) <= 2 or len(content) != math.prod(shape):
        raise ValueError("an array of objects that is no list of lists")
    if len(shape) == 1:
        return content
    rows, columns = shape
    return [content[row * columns : (row + 1) * columns] for row in range(rows)]


def _short(value: Any) -> str:
    return value.name[:60] if isinstance(value, Name | Call) else f"a {type(value).__name__}"
