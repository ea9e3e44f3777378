"""Stand-in for pyACL, the module `acl` of Ascend's CANN, with the functions that are needed to run an om file.

Pointers are addresses of real memory. A copy from freed memory therefore reads the current content of that memory. The
functions return the documented error codes in these cases: a call before init or without a device, a copy with a wrong
direction or size, an om file that was built for a different chip, and the release of a resource that is still used.

calls: names of the functions that were called.
fail: error codes that functions shall return, by name of the function.
left(): returns the resources that were not released.
"""

import ctypes
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1].parent))

import numpy as np
from standins.om_file import NotAnOmError
from standins.om_model import OmModel, devices, soc

_INVALID, _UNINITIALIZED, _REPEATED, _LOAD_FAILED, _NO_DEVICE = 100000, 100001, 100002, 500002, 507033
_TYPES = {"tensor(float)": 0, "tensor(float16)": 1, "tensor(int32)": 3, "tensor(int64)": 9}
_BYTES = {1: 2, 9: 8}  # bytes per value by type number; all other types have 4 bytes
calls: list[str] = []
fail: dict[str, int] = {}
rt, mdl = SimpleNamespace(), SimpleNamespace()
_state = SimpleNamespace(init=False, device=None, memory={}, host={}, made={}, number=0)


def left() -> list[str]:
    """Return the kinds of the resources that are not released."""
    held = [f"memory {pointer}" for pointer in _state.memory] + [kind for kind, _ in _state.made.values()]
    return held + ["device"] * (_state.device is not None) + ["init"] * _state.init


def _named(name: str, returns: str = "code", needs: str = "device"):
    """Return a decorator that makes a function available as acl.`name`, records its calls, and simulates errors.

    Args:
        returns: kind of the return value. `code` is an error code, `pair` is a value and an error code, and `value` is
            a value that is None after an error.
        needs: required state, without which the call fails: `init`, `device` (which includes init), or nothing.
    """

    def decorate(function):
        def call(*arguments):
            calls.append(name)
            code = fail.get(name, 0)
            if not code and needs and not _state.init:
                code = _UNINITIALIZED
            if not code and needs == "device" and _state.device is None:
                code = _INVALID
            return {"code": code, "pair": (None, code), "value": None}[returns] if code else function(*arguments)

        place, _, short = name.rpartition(".")
        setattr({"rt": rt, "mdl": mdl}.get(place, sys.modules[__name__]), short, call)
        return function

    return decorate


def _make(kind: str, value) -> int:
    _state.number += 1
    _state.made[_state.number] = (kind, value)
    return _state.number


def _made(handle: int, kind: str):
    found = _state.made.get(handle)
    return found[1] if found and found[0] == kind else None


def _drop(kind: str, handle: int) -> int:
    return 0 if _made(handle, kind) is not None and _state.made.pop(handle) else _INVALID


_named("destroy_data_buffer")(partial(_drop, "buffer"))
_named("mdl.unload")(partial(_drop, "model"))
_named("mdl.destroy_desc")(partial(_drop, "description"))
_named("mdl.destroy_dataset")(partial(_drop, "data set"))
_named("mdl.create_desc", "value")(lambda: _make("description", {}))
_named("mdl.create_dataset", "value")(lambda: _make("data set", []))


@_named("init", needs="")
def _init(*config) -> int:
    if _state.init:
        return _REPEATED
    _state.init = True
    return 0


@_named("finalize", needs="init")
def _finalize() -> int:
    if _state.device is not None or _state.made or _state.memory:
        return _INVALID
    _state.init = False
    return 0


def get_soc_name() -> str:
    return soc()


@_named("create_data_buffer", "value")
def _create_data_buffer(pointer: int, size: int) -> int | None:
    buffer = _state.memory.get(pointer)
    return _make("buffer", (pointer, size)) if buffer is not None and size <= len(buffer) else None


@_named("rt.set_device", needs="init")
def _set_device(device: int) -> int:
    if not 0 <= device < devices():
        return _NO_DEVICE
    _state.device = device
    return 0


@_named("rt.reset_device")
def _reset_device(device: int) -> int:
    if device != _state.device or _state.made or _state.memory:
        return _INVALID
    _state.device = None
    return 0


@_named("rt.create_context", "pair")
def _create_context(device: int) -> tuple:
    return (_make("context", device), 0) if device == _state.device else (None, _INVALID)


@_named("rt.destroy_context")
def _destroy_context(handle: int) -> int:
    if any(kind != "context" for kind, _ in _state.made.values()) or _state.memory:
        return _INVALID
    return _drop("context", handle)


def _allocate(on_host: bool, size: int, policy: int = 0) -> tuple:
    if size < 1 or policy not in (0, 1, 2):
        return None, _INVALID
    block = (ctypes.c_char * size)()
    _state.memory[ctypes.addressof(block)] = block
    _state.host[ctypes.addressof(block)] = on_host
    return ctypes.addressof(block), 0


def _free(on_host: bool, pointer: int) -> int:
    used = any(kind == "buffer" and value[0] == pointer for kind, value in _state.made.values())
    if _state.host.get(pointer) is not on_host or used:
        return _INVALID
    del _state.memory[pointer], _state.host[pointer]
    return 0


_named("rt.malloc", "pair")(partial(_allocate, False))
_named("rt.malloc_host", "pair")(partial(_allocate, True))
_named("rt.free")(partial(_free, False))
_named("rt.free_host")(partial(_free, True))


@_named("rt.memcpy")
def _memcpy(to: int, room: int, source: int, count: int, direction: int) -> int:
    to_device, from_device = (_state.host.get(pointer) is False for pointer in (to, source))
    if (to_device, from_device) != {1: (True, False), 2: (False, True)}.get(direction) or count > room:
        return _INVALID
    if to not in _state.memory or room > len(_state.memory[to]):
        return _INVALID
    ctypes.memmove(to, source, count)
    return 0


@_named("mdl.load_from_file", "pair")
def _load(path: str) -> tuple:
    if not isinstance(path, str):
        return None, _INVALID
    try:
        return _make("model", OmModel(path)), 0
    except (OSError, NotAnOmError):
        return None, _LOAD_FAILED


@_named("mdl.get_desc")
def _get_desc(handle: int, model: int) -> int:
    if _made(handle, "description") is None or _made(model, "model") is None:
        return _INVALID
    _made(handle, "description")["model"] = _made(model, "model")
    return 0


@_named("mdl.add_dataset_buffer", "pair")
def _add_buffer(handle: int, buffer: int) -> tuple:
    if _made(handle, "data set") is None or _made(buffer, "buffer") is None:
        return None, _INVALID
    _made(handle, "data set").append(_made(buffer, "buffer"))
    return handle, 0


@_named("mdl.execute")
def _execute(model: int, inputs: int, outputs: int) -> int:
    model, inputs, outputs = _made(model, "model"), _made(inputs, "data set"), _made(outputs, "data set")
    if model is None or not inputs or not outputs:
        return _INVALID
    needed = [_size(value) for value in (model.inputs[0], model.outputs[0])]
    if [len(inputs), len(outputs), inputs[0][1], outputs[0][1]] != [1, 1, *needed]:
        return _INVALID
    values = np.frombuffer(ctypes.string_at(*inputs[0]), "<f4")
    content = model.run(values).astype("<f4").tobytes()
    ctypes.memmove(outputs[0][0], content, len(content))
    return 0


def _size(value) -> int:
    return int(np.prod(value.shape)) * _BYTES.get(_TYPES[value.type], 4)


def _values(kind: str, handle: int) -> list:
    return getattr(_made(handle, "description")["model"], f"{kind}s")


def _dims(kind: str, handle: int, i: int) -> tuple:
    value = _values(kind, handle)[i]
    sizes = [size if isinstance(size, int) else -1 for size in value.shape]
    return {"name": value.name, "dimCount": len(sizes), "dims": sizes}, 0


for _kind in ("input", "output"):
    _named(f"mdl.get_num_{_kind}s", "value")(lambda handle, kind=_kind: len(_values(kind, handle)))
    _named(f"mdl.get_{_kind}_dims", "pair")(partial(_dims, _kind))
    _named(f"mdl.get_{_kind}_data_type", "value")(lambda handle, i, kind=_kind: _TYPES[_values(kind, handle)[i].type])
    _named(f"mdl.get_{_kind}_size_by_index", "value")(lambda handle, i, kind=_kind: _size(_values(kind, handle)[i]))


util = SimpleNamespace(
    bytes_to_ptr=lambda content: ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value,
    ptr_to_bytes=ctypes.string_at,
)
OLD_UTIL = SimpleNamespace(  # the functions of `util` in older CANN versions
    numpy_to_ptr=lambda values: values.ctypes.data,
    ptr_to_numpy=lambda pointer, shape, kind: np.frombuffer(ctypes.string_at(pointer, shape[0]), np.int8),
)
