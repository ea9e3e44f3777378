"""NpuFusedAdam, whose results are bit-identical to torch's Adam.

The optimizer moves all weights of a group into one tensor, all gradients into a second tensor, and each part of the
state into one more tensor. Like the real optimizer,
- it moves weights and gradients at the first step, or at the first `zero_grad` after gradients exist,
- it supports only float32 and float16 weights, and raises an error for `set_to_none`,
- it counts steps in one number per weight and in one number per group. The number of a group starts at the number of
  its first weight. If the step is a tensor, as in the states that torch's Adam saves, both numbers are the same object,
  which therefore grows by two.
"""

import torch
from torch.optim import Optimizer


def _combined(tensors) -> torch.Tensor | None:
    """Move the tensors into one flat tensor, and replace their data by views of the flat tensor."""
    if not tensors:
        return None
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.data = part.view(tensor.shape)
    return flat


class NpuFusedAdam(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False):
        if lr < 0 or eps < 0 or weight_decay or amsgrad:
            raise ValueError("the stand-in supports only Adam without weight decay and AMSGrad")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0, "amsgrad": False})
        self.is_fused_optimizer = True
        self.weights = None  # for each group: the tensor of weights, the tensor of gradients, and the parameters
        self.state_in_one = None

    def _combine(self) -> None:
        if self.weights is not None:
            return
        weights = []
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            for p in with_gradient:
                if p.device.type != "npu":
                    raise RuntimeError(f"Tensors to combine must be on NPU, got {p.device.type}.")
                if p.dtype not in (torch.float32, torch.float16):
                    raise TypeError(f"Fused optimizer's parameters must be either float32 or float16, not {p.dtype}")
            weights.append((_combined(with_gradient), _combined([p.grad for p in with_gradient]), with_gradient))
        if any(gradient is not None for _, gradient, _ in weights):
            self.weights = weights

    def _combine_state(self) -> None:
        if self.state_in_one is not None:
            return
        self.state_in_one = []
        for _, _, group in self.weights:
            for p in group:
                if not self.state[p]:
                    self.state[p] = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            states = [self.state[p] for p in group]
            one = {key: _combined([state[key] for state in states]) for key in ("exp_avg", "exp_avg_sq")}
            self.state_in_one.append({"step": states[0]["step"], **one})

    @torch.no_grad()
    def zero_grad(self, set_to_none=False):
        if set_to_none:
            raise ValueError("set_to_none is not supported in fused optimizers")
        self._combine()
        if self.weights is None:
            super().zero_grad(set_to_none)
            return
        for _, gradient, _ in self.weights:
            gradient.zero_()

    @torch.no_grad()
    def step(self, closure=None):
        self._combine()
        self._combine_state()
        for options, (weight, gradient, parameters), state in zip(
            self.param_groups, self.weights, self.state_in_one, strict=True
        ):
            for p in parameters:
                self.state[p]["step"] += 1
            state["step"] += 1
            beta1, beta2 = options["betas"]
            state["exp_avg"].lerp_(gradient, 1 - beta1)
            state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            correction = (1 - beta2 ** state["step"]) ** 0.5
            denominator = (state["exp_avg_sq"].sqrt() / correction).add_(options["eps"])
            weight.addcdiv_(state["exp_avg"], denominator, value=-(options["lr"] / (1 - beta1 ** state["step"])))
