"""torch_npu.npu.amp.GradScaler, and the overflow flag that it reads on chips without infinity.

As in the real torch_npu, all processes skip the step if one process overflows. A saved state must contain `dynamic`.
"""

import torch
import torch.distributed as dist


def is_support_inf_nan() -> bool:
    from torch_npu import _library

    return not _library.npusim_saturates()


def get_npu_overflow_flag() -> bool:
    from torch_npu import _library

    if is_support_inf_nan():
        raise RuntimeError("Unsupported api when soc_version >= Ascend910B1, please use npu_check_overflow")
    return bool(_library.npusim_overflowed())


def clear_npu_overflow_flag() -> None:
    from torch_npu import _library

    _library.npusim_clear_overflow()


class GradScaler(torch.amp.GradScaler):
    def __init__(
        self,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        dynamic=True,
        enabled=True,
    ):
        if not dynamic:
            raise ValueError("the stand-in supports only dynamic=True, which checks for overflow")
        super().__init__("npu", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
        self._cleared = False

    def scale(self, outputs):
        if self._enabled and not self._cleared:
            if not is_support_inf_nan():
                clear_npu_overflow_flag()
            self._cleared = True
        return super().scale(outputs)

    def _unscale_grads_(self, optimizer, inv_scale, found_inf, allow_fp16):
        found = super()._unscale_grads_(optimizer, inv_scale, found_inf, allow_fp16)
        if not is_support_inf_nan():
            seen = torch.full((1,), float(get_npu_overflow_flag()), device=found_inf.device)
            if dist.is_initialized():
                dist.all_reduce(seen)
            for each in found.values():
                each.add_(seen.reshape(each.shape))
        return found

    def _maybe_opt_step(self, optimizer, optimizer_state, *args, **kwargs):
        if sum(each.item() for each in optimizer_state["found_inf_per_device"].values()):
            print("Gradient overflow. Skipping step")
            return None
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale=None):
        self._cleared = False
        return super().update(new_scale)

    def state_dict(self):
        return {**super().state_dict(), **({"dynamic": True} if self._enabled else {})}

    def load_state_dict(self, state):
        if self._enabled:
            super().load_state_dict(state)
            assert state["dynamic"]
