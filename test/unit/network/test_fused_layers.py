"""Compare the network that uses Triton kernels with the reference network, and compile the kernels for other GPUs."""

import sys

import pytest
import torch
from random_silhouettes import difference, silhouettes
from scripts import ROOT, run_quietly

from model.common.errors import UserError
from model.network import GaitSet
from model.network.kernels import supports


class RecordingKernel:
    """A kernel that records the arguments of its launches."""

    def __init__(self, kernel):
        self.kernel, self.arguments = kernel, []

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            self.arguments.append(arguments)
            return self.kernel[grid](*arguments, **options)

        return launch


@pytest.mark.parametrize("learning", [True, False])
def test_tensors_for_the_backward_pass_are_saved_only_for_training(exact_kernels, monkeypatch, learning):
    places = {
        ("first_layers", "_forward_kernel"): 3,
        ("maxima", "_pool_kernel"): 2,
        ("maxima", "_set_maximum_kernel"): 3,
    }
    noted = {}
    for module, name in places:
        noted[name] = RecordingKernel(getattr(getattr(exact_kernels, module), name))
        monkeypatch.setattr(getattr(exact_kernels, module), name, noted[name])
    with torch.set_grad_enabled(learning):
        ends = torch.tensor([0, 1], dtype=torch.int32)
        pooled = exact_kernels.fused_layers.pooled_maps(GaitSet(4), silhouettes(1), ends, torch.float32)
    assert all(maps.requires_grad == learning for maps in pooled)
    for (_, name), place in places.items():
        for arguments in noted[name].arguments:
            assert arguments[-1] == learning and (arguments[place].numel() > 0) == learning, name


COMPILE = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from model.network.kernels import active_blocks, first_layers, maxima, pyramid, triplet_loss

half = sys.argv[1]
types = dict.fromkeys(("x", "matrices", "out", "gradient", "maps", "of_maps"), "*" + half)
types |= dict.fromkeys(("of_set", "of_global", "to_set", "to_global"), "*" + half)  # other arguments are *fp32
types |= dict.fromkeys(("sequences", "frames", "bytes", "strips", "blocks"), "i32")
types |= dict.fromkeys(("counts", "ends", "active", "count", "largest", "hardest"), "*i32")
types |= {"codes": "*u8", "bits": "*u8", "seen": "*i8", "margin": "fp32"}
of_maps = dict(FEATURES=22528, BLOCK=512, STEP=8)
pooled = dict(HALF_WIDTH=11, CHANNELS=64, BLOCK=maxima.BLOCK_CHUNK)
of_strips = dict(CHANNELS=128, WIDTH=11, CHUNK=pyramid.CHANNEL_CHUNK)
for kernel, constants in (
    (active_blocks._pad_kernel, {}),
    (active_blocks._list_kernel, {}),
    (first_layers._forward_kernel, dict(BLOCK=first_layers.BLOCK, CODES=True)),
    (first_layers._backward_kernel, dict(BLOCK=first_layers.BLOCK)),
    (maxima._activate_kernel, dict(BLOCK=maxima.BYTE_CHUNK)),
    (maxima._activate_backward_kernel, dict(BLOCK=maxima.BYTE_CHUNK)),
    (maxima._pool_kernel, pooled | dict(CODES=True)),
    (maxima._pool_backward_kernel, pooled),
    (maxima._set_maximum_kernel, of_maps | dict(KEEP=True)),
    (maxima._spread_kernel, of_maps | dict(ADD=True)),
    (pyramid._pyramid_kernel, of_strips),
    (pyramid._pyramid_backward_kernel, of_strips),
    (triplet_loss._losses_kernel, dict(K=16, N=128, PADDED_K=16, PADDED_N=128)),
    (triplet_loss._losses_backward_kernel, dict(N=128, PADDED_N=128)),
):
    of_kernel = types | ({"frames": "*u8"} if kernel is active_blocks._pad_kernel else {})
    signature = {n: "constexpr" if n in constants else of_kernel.get(n, "*fp32") for n in kernel.arg_names}
    pointers = [i for i, n in enumerate(kernel.arg_names) if signature[n].startswith("*")]
    aligned = {(i,): [["tt.divisibility", 16]] for i in pointers}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = compile(source, target=GPUTarget("cuda", 86, 32), options={"num_warps": 4, "num_stages": 1})
    print(kernel.__name__, compiled.metadata.shared)
"""


@pytest.mark.slow
@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_kernels_compile_for_the_smallest_shared_memory(half):
    """GPUs of compute capability 8.6 have 99 KiB of shared memory per program. Compiling for them needs no GPU."""
    pytest.importorskip("triton", reason="Triton cannot be imported here", exc_type=ImportError)
    run = run_quietly([sys.executable, "-c", COMPILE, half], ROOT, {"TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr[-2000:]
    shared = dict(line.split() for line in run.stdout.splitlines())
    assert len(shared) == 14 and max(map(int, shared.values())) <= 99 << 10


def test_kernels_reject_more_frames_than_32_bits_can_count(exact_kernels):
    """A pooled map has 32·22·32 elements per frame."""
    frames = torch.empty(2**31 // (32 * 22 * 32) + 1, 64, 44, dtype=torch.uint8, device="meta")
    ends = torch.tensor([0, len(frames)], dtype=torch.int32)
    with pytest.raises(UserError, match="95326 frames is too large"):
        exact_kernels.fused_layers.pooled_maps(GaitSet(4), frames, ends, torch.float16)


@pytest.mark.slow
def test_embeddings_and_gradients_equal_the_reference_network(exact_kernels):
    """If two elements are nearly equal, rounding decides which of them is the maximum. One such pair among tens of
    thousands of elements changes the gradients of earlier layers by a few thousandths. So each gradient must be equal
    for at least one of two initializations, and nearly equal for the other initialization."""
    fused = exact_kernels.fused_layers
    differences = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network, sils = GaitSet(16), silhouettes(4)
        ends = torch.tensor([0, 2, 3], dtype=torch.int32)  # the fourth frame belongs to no sequence
        ours = fused.embed(network, *fused.pooled_maps(network, sils, ends, torch.float32))
        theirs = network(sils[:3].float() / 255, lengths=[2, 1])
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
        gradient = torch.randn(theirs.shape)
        gradients = [torch.autograd.grad(y, list(network.parameters()), gradient) for y in (ours, theirs)]
        differences.append([difference(a, b) for a, b in zip(*gradients, strict=True)])
    for (name, _), of_both in zip(network.named_parameters(), zip(*differences, strict=True), strict=True):
        assert min(of_both) < 1e-5 and max(of_both) < 0.01, (name, of_both)


@torch.no_grad()
def test_kernels_support_further_channels(exact_kernels):
    assert supports((32, 32, 96))
    torch.manual_seed(0)
    network, sils = GaitSet(4, channels=(32, 32, 96)), silhouettes(2)
    ours = exact_kernels.fused_layers.pooled_maps(network, sils, torch.tensor([0, 2], dtype=torch.int32), torch.float32)
    theirs = network.pooled_maps(sils[None])
    ours, theirs = (*ours, exact_kernels.fused_layers.embed(network, *ours)), (*theirs, network.embed(*theirs))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("channels", [(32, 64, 128), (32, 128, 288)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_network_in_half_precision_is_as_exact_as_autocast(kernels, dtype, channels):
    if kernels.interpreted:
        pytest.skip("the interpreter is too slow for the whole network")
    torch.manual_seed(0)
    network, sils = GaitSet(16, channels=channels), silhouettes(40).view(4, 10, 64, 44)
    results = []
    for device, network.amp_dtype, network.fused in (
        (torch.device("cpu"), None, False),
        (kernels.device, dtype, False),
        (kernels.device, dtype, True),
    ):
        embeddings = network.to(device)(sils.to(device)).float()
        gradient = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0)).to(device)
        results.append([embeddings, *torch.autograd.grad(embeddings, list(network.parameters()), gradient)])
    for exact, half, ours in zip(*results, strict=True):
        assert difference(ours, exact) < 1.5 * difference(half, exact)
