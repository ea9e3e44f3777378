"""Run an om file with pyACL, the Python binding of Ascend's CANN. This needs no external tool and no input files.

The order of the calls follows CANN's documentation. Opening a model calls init, set_device, create_context and
load_from_file, then creates the description of the model and two data sets with one buffer each, for the input and the
output. Running a batch calls memcpy, execute and memcpy. At the end, all resources are released in reverse order.
"""

import time
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.geometry import FLOAT32, STRIPS
from model.export.atc.advice import coded_error, uncoded_reason
from model.runtime.static_runtime import StaticRuntime

_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
_HUGE_FIRST = 0  # page policy of rt.malloc
_BYTE = 1  # NumPy's type number of int8, for ptr_to_numpy
_FLOAT32 = 0
_TYPES = {0: "float32", 1: "float16", 2: "int8", 3: "int32", 4: "uint8", 9: "int64", 11: "float64"}
_REPEATED = 100002  # acl.init was already called in this process, for example by torch_npu
# The call that releases a resource, by the call that acquires it. The release gets the handle that the acquiring call
# returned. If the acquiring call returned no handle, the release gets the arguments of the acquiring call.
_RELEASE = {
    "rt.set_device": "rt.reset_device", "rt.create_context": "rt.destroy_context", "mdl.load_from_file": "mdl.unload",
    "mdl.create_desc": "mdl.destroy_desc", "mdl.create_dataset": "mdl.destroy_dataset", "rt.malloc": "rt.free",
    "create_data_buffer": "destroy_data_buffer", "rt.malloc_host": "rt.free_host",
}  # fmt: skip
_WITHOUT_CODE = ("mdl.create_desc", "mdl.create_dataset", "create_data_buffer")  # return only a handle
_ADVICE = {
    "init": "is the NPU driver installed? also source CANN's set_env.sh",
    "rt.set_device": "does the device exist, and is it free? see npu-smi info and ASCEND_RT_VISIBLE_DEVICES",
    "mdl.load_from_file": "was the om file converted for this chip (--soc_version) by this or an older CANN version?",
    "rt.malloc": "is the device out of memory? see npu-smi info",
}


class AclRuntime(StaticRuntime):
    """Run an om file of static shape on one chip.

    An instance must be used in the thread that created it. If other code has already initialized ACL in this process,
    the instance does not finalize ACL and does not reset the device.

    Raises:
        UserError: if an ACL call fails, with its name and error code, or if the om file has dynamic shapes, several
            inputs or outputs, or a type other than float32.
    """

    name = "acl"

    def __init__(self, om_path: Path | str, device_id: int = 0):
        self.path, self.device_id = Path(om_path), device_id
        self.device_ms = []
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such om file; create it with test/pth2om.sh")
        self._acl = import_acl()
        with ExitStack() as held:
            self._held = held
            self._open()
            self._held = held.pop_all()

    def _run(self, image_seq: np.ndarray) -> np.ndarray:
        host, keep = self._pointer_to(np.ascontiguousarray(image_seq, np.float32))
        self._call("rt.memcpy", *self._input, host, image_seq.size * 4, _HOST_TO_DEVICE)
        del keep  # needed only as long as the pointer is used
        start = time.perf_counter()
        self._call("mdl.execute", self._model, self._inputs, self._outputs)
        self.device_ms.append((time.perf_counter() - start) * 1000)
        pointer, size = self._output
        self._call("rt.memcpy", self._host, size, pointer, size, _DEVICE_TO_HOST)
        count = int(np.prod(self.output_shape))  # the buffer may be larger than the tensor
        return np.frombuffer(self._bytes_at(self._host, size), FLOAT32, count).reshape(self.output_shape)

    def facts(self) -> dict[str, Any]:
        name = getattr(self._acl, "get_soc_name", lambda: None)()
        return {
            "runtime": self.name, "version": "pyACL", "provider": f"device {self.device_id}",
            "chip": name if isinstance(name, str) and name else None, "model": str(self.path),
        }  # fmt: skip

    def __exit__(self, *error) -> None:
        """Release buffers, model, context and device. Raises UserError if a call fails and no other error is active."""
        self._held.__exit__(*error)

    def _open(self) -> None:
        code = self._acl.init()
        own = code != _REPEATED
        if own:
            self._check("init", code)
            self._release_later("finalize")
        self._call("rt.set_device", self.device_id, release=own)
        if own:
            self._call("rt.create_context", self.device_id)
        self._model = self._call("mdl.load_from_file", str(self.path))
        self._description = self._call("mdl.create_desc")
        self._call("mdl.get_desc", self._description, self._model)
        self.input_shape = self._shape("input", 4)
        flat = self._shape("output")
        per_vector, rest = divmod(int(np.prod(flat)), self.batch_size * STRIPS)
        if rest:
            raise UserError(
                f"{self.path}: its output has shape {list(flat)}, expected [{self.batch_size}, {STRIPS}, d]; convert a "
                "model of this project with test/pth2om.sh"
            )
        self.output_shape = (self.batch_size, STRIPS, per_vector)
        self._inputs, self._input = self._data_set("input", self.input_shape)
        self._outputs, self._output = self._data_set("output", self.output_shape)
        self._host = self._call("rt.malloc_host", self._output[1])

    def _shape(self, kind: str, rank: int | None = None) -> tuple[int, ...]:
        """Return the shape of the only input or output, which must be float32 and static."""
        count = self._function(f"mdl.get_num_{kind}s")(self._description)
        if count != 1:
            hint = " (dynamic shapes add an input)" if kind == "input" else ""
            raise UserError(f"{self.path}: has {count} {kind}s{hint}, expected one; convert it with test/pth2om.sh")
        dims = tuple(self._call(f"mdl.get_{kind}_dims", self._description, 0)["dims"])
        number = self._function(f"mdl.get_{kind}_data_type")(self._description, 0)
        if number != _FLOAT32 or min(dims, default=0) < 1 or (rank and len(dims) != rank):
            raise UserError(
                f"{self.path}: its {kind} is {_TYPES.get(number, f'type {number}')} {list(dims)}, expected float32 of "
                "static shape; convert it with test/pth2om.sh without --input_fp16_nodes, --output_type or dynamic axes"
            )
        return dims

    def _data_set(self, kind: str, shape: tuple[int, ...]) -> tuple[Any, tuple[int, int]]:
        """Create a data set with one device buffer, whose size is read from the om file.

        Returns:
            The data set, and the pointer and size of its buffer.
        """
        needed, size = int(np.prod(shape)) * 4, self._function(f"mdl.get_{kind}_size_by_index")(self._description, 0)
        if size < needed:
            raise UserError(
                f"{self.path}: its {kind} has {size} bytes, but its shape needs {needed} bytes; convert it again with "
                "test/pth2om.sh"
            )
        data_set = self._call("mdl.create_dataset")
        pointer = self._call("rt.malloc", size, _HUGE_FIRST)
        self._call("mdl.add_dataset_buffer", data_set, self._call("create_data_buffer", pointer, size))
        return data_set, (pointer, size)

    def _pointer_to(self, values: np.ndarray) -> tuple[int, Any]:
        """Return a host pointer to `values`, and the object that must stay alive while the pointer is used.

        Older CANN versions have only numpy_to_ptr.
        """
        util = self._acl.util
        if hasattr(util, "bytes_to_ptr"):
            content = values.tobytes()
            return util.bytes_to_ptr(content), content
        return util.numpy_to_ptr(values), values

    def _bytes_at(self, pointer: int, size: int) -> bytes:
        util = self._acl.util
        if hasattr(util, "ptr_to_bytes"):
            return util.ptr_to_bytes(pointer, size)
        return util.ptr_to_numpy(pointer, (size,), _BYTE).tobytes()

    def _function(self, name: str):
        return attrgetter(name)(self._acl)

    def _call(self, name: str, *arguments: Any, release: bool = True) -> Any:
        """Call acl.`name`, check that the call succeeded, and return its value, or None if it returns only a code.

        The error code is the last value, or the only value, that a call returns.

        Args:
            release: if the call acquires a resource, let `__exit__` release the resource.
        """
        result = self._function(name)(*arguments)
        if name in _WITHOUT_CODE:
            values = [result]
            if not result:
                raise UserError(f"{self.path}: pyACL's acl.{name} returned no handle; see CANN's log in ~/ascend/log")
        else:
            *values, code = result if isinstance(result, tuple) else (result,)
            self._check(name, code)
        if release and name in _RELEASE:
            self._release_later(_RELEASE[name], *(values or arguments))
        return values[0] if values else None

    def _check(self, name: str, code: int) -> None:
        if code == 0:
            return
        message = getattr(self._acl, "get_recent_err_msg", lambda: None)()
        message = message if isinstance(message, str) else ""
        error = coded_error(message)
        text = f"{error.code}: {error.text}" if error else uncoded_reason(message)
        detail = f": {text}" if text else ""
        advice = _ADVICE.get(name, "see CANN's log in ~/ascend/log")
        raise UserError(
            f"{self.path}: pyACL's acl.{name} failed on device {self.device_id} with code {code}{detail}; {advice}"
        )

    def _release_later(self, name: str, *arguments: Any) -> None:
        """Let `__exit__` call acl.`name`. If an error ends the block, a failure of this call does not replace it."""

        def release(kind, error, trace) -> None:
            code = self._function(name)(*arguments)
            if error is None:
                self._check(name, code)

        self._held.push(release)


def import_acl():
    """Import CANN's module acl. Raises UserError if acl is missing or is a different package of the same name."""
    try:
        import acl
    except ImportError as error:
        raise UserError(f"pyACL cannot be imported ({error}); pyACL is part of CANN: source its set_env.sh") from error
    if not hasattr(acl, "mdl") or not hasattr(acl, "rt"):
        origin = getattr(acl, "__file__", None) or "a folder of this name"
        raise UserError(f"the module acl ({origin}) is not Ascend's pyACL; uninstall it and source CANN's set_env.sh")
    return acl
