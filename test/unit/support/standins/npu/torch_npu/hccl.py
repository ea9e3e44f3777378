"""The communication backend `hccl` for the device `npu`. It copies data to the host and communicates with gloo."""

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import ProcessGroupGloo, _create_work_from_future
from torch.futures import Future


def _check(tensors) -> None:
    for tensor in tensors:
        if tensor.device.type != "npu":
            raise RuntimeError("HCCL: Tensors must be NPU and dense")
        if not tensor.is_contiguous():
            raise RuntimeError("HCCL: Tensors must be contiguous")
        if not tensor.numel():
            raise RuntimeError("HCCL: this stand-in does not support empty tensors")


def _done(result):
    future = Future()
    future.set_result(result)
    return _create_work_from_future(future)


class ProcessGroupHCCL(dist.ProcessGroup):
    _device_types = (torch.device("npu"),)  # device on which torch stores the objects that it sends

    def __init__(self, store, rank, size, timeout):
        super().__init__(rank, size)
        self.gloo = ProcessGroupGloo(store, rank, size, timeout)

    def getBackendName(self):  # noqa: N802  torch's own name
        return "hccl"

    def _carry(self, operation, tensors, *arguments):
        """Run a collective on copies of the tensors, and copy the results back."""
        _check(tensors)
        copies = [tensor.cpu() for tensor in tensors]
        operation(copies, *arguments).wait()
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)
        return _done(tensors)

    def allreduce(self, tensors, opts=None):
        return self._carry(self.gloo.allreduce, tensors, opts or dist.AllreduceOptions())

    def broadcast(self, tensors, opts=None):
        return self._carry(self.gloo.broadcast, tensors, opts or dist.BroadcastOptions())

    def send(self, tensors, dst, tag=0):
        return self._carry(self.gloo.send, tensors, dst, tag)

    def recv(self, tensors, src, tag=0):
        return self._carry(self.gloo.recv, tensors, src, tag)

    def allgather(self, outputs, inputs, opts=None):
        for row, tensor in zip(outputs, inputs, strict=True):
            _check([*row, tensor])
            copies = [output.cpu() for output in row]
            self.gloo.allgather([copies], [tensor.cpu()]).wait()
            for output, copy in zip(row, copies, strict=True):
                output.copy_(copy)
        return _done(outputs)

    def barrier(self, opts=None):
        return self.gloo.barrier(opts or dist.BarrierOptions())


def _make(options, pg_options):
    return ProcessGroupHCCL(options.store, options.group_rank, options.group_size, options.timeout)


dist.Backend.register_backend("hccl", _make, extended_api=True, devices=["npu"])
dist.is_hccl_available = lambda: True
torch.distributed.ProcessGroupHCCL = ProcessGroupHCCL
