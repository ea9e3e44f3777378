"""Compare the Triton kernels with torch, in Triton's interpreter on the CPU and, if there is a GPU, compiled."""

import importlib
import importlib.util
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scripts import ROOT, run_quietly

from model.common.errors import UserError
from model.devices import triton_support
from model.devices.opening import resolve_device
from model.network import GaitSet, triplet, triplet_losses
from model.network import kernels as kernels_package

CPU = torch.device("cpu")
KERNELS = ("first_layers", "maxima", "set_layers", "triplet_counts")
WAYS = ["interpreted", "compiled"] if torch.cuda.is_available() else ["interpreted"]


def is_bound(name: str) -> bool:
    """Return whether a module depends on TRITON_INTERPRET when it is imported. Triton's C library does not."""
    kernels = [f"model.network.kernels.{kernel}" for kernel in KERNELS]
    return name in kernels or (f"{name}.".startswith("triton.") and not f"{name}.".startswith("triton._C."))


@pytest.fixture(scope="module", params=WAYS)
def kernels(request):
    """The modules with the kernels, imported for the interpreter or for the GPU.

    The previously imported modules are restored at the end.
    """
    interpreted = request.param == "interpreted"
    device = CPU if interpreted else resolve_device("cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", str(int(interpreted)))
        for name in filter(is_bound, list(sys.modules)):
            patch.delitem(sys.modules, name)
        try:
            pytest.importorskip("triton", reason="Triton cannot be imported here", exc_type=ImportError)
            modules = {name: importlib.import_module(f"model.network.kernels.{name}") for name in KERNELS}
            if interpreted:
                modules[
                    "first_layers"
                ].BLOCK = 1024  # the interpreter's time depends on the number of operations, not on their size
                skip_without_loops(modules["maxima"])
            yield SimpleNamespace(device=device, interpreted=interpreted, **modules)
        finally:
            for name in filter(is_bound, list(sys.modules)):
                del sys.modules[name]


def skip_without_loops(maxima) -> None:
    """Skip if the interpreter fails: that of Triton 3.6 relies on a conversion that NumPy 2.4 has removed."""
    try:
        maxima.SetMaximum.apply(torch.zeros(1, 512, 1, 1), torch.tensor([0, 1], dtype=torch.int32))
    except Exception as error:
        if "0-dimensional arrays" not in str(error):
            raise
        pytest.skip(f"this Triton's interpreter is not compatible with NumPy {np.__version__}")


def skip_if_compiled(kernels, reason: str) -> None:
    if not kernels.interpreted:
        pytest.skip(reason)


def silhouettes(frames: int, seed: int = 0) -> torch.Tensor:
    """uint8 [frames, 64, 44]: coarse shapes and grey noise that touch all four borders of each frame."""
    generator = torch.Generator().manual_seed(seed)
    figure = torch.rand(frames, 8, 6, generator=generator) > 0.5
    figure = figure.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :, :44].to(torch.uint8) * 255
    noise = torch.randint(256, figure.shape, dtype=torch.uint8, generator=generator)
    sils = torch.where(torch.rand(figure.shape, generator=generator) < 0.2, noise, figure)
    for border in (sils[:, 0], sils[:, -1], sils[:, :, 0], sils[:, :, -1]):
        assert (border > 0).any(1).all()
    return sils


def first_weights(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    shapes = (32, 1, 5, 5), (32, 32, 3, 3)
    return tuple(torch.nn.init.xavier_uniform_(torch.empty(shape)).requires_grad_() for shape in shapes)


def fused_first_layers(kernels, sils, weights, dtype=torch.float32):
    padded = kernels.first_layers.pad_frames(sils.to(kernels.device), dtype)
    return kernels.first_layers.FirstLayers.apply(padded, *(weight.to(kernels.device) for weight in weights))


def torch_first_layers(sils, weights, dtype=torch.float32):
    """Return the maps of layer 2, computed by torch in `dtype`, and the maps before their max pooling."""
    weight1, weight2 = (weight.to(dtype) for weight in weights)
    maps = F.leaky_relu(F.conv2d(sils[:, None].to(dtype) / 255, weight1, padding=2), 0.01)
    unpooled = F.conv2d(maps, weight2, padding=1)
    return F.leaky_relu(F.max_pool2d(unpooled, 2), 0.01), unpooled


def gradient_of_clear_maxima(unpooled: torch.Tensor) -> torch.Tensor:
    """Return a random gradient of the pooled maps, 0 where rounding decides on the maximum or on its sign."""
    best = unpooled.detach().unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).topk(2).values
    clear = torch.minimum(best[..., 0] - best[..., 1], best[..., 0].abs()) > 1e-5 * best.abs().max()
    assert clear.float().mean() > 0.9
    return torch.randn(clear.shape, generator=torch.Generator().manual_seed(0)) * clear


def difference(ours, theirs) -> float:
    """Return the norm of the difference, relative to the norm of `theirs`."""
    ours, theirs = ours.cpu().double(), theirs.double()
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize(("frames", "block"), [(1, 64), (1, 128), (3, 512)], ids=["default", "half a tile", "tiles"])
def test_first_layers_equal_torch(kernels, monkeypatch, frames, block):
    """Rows past the last block must have no effect. 704 blocks per frame are a multiple of 64, not of 128 or 512."""
    skip_if_compiled(kernels, "a GPU rounds float32 products")
    monkeypatch.setattr(kernels.first_layers, "BLOCK", block)
    sils, weights = silhouettes(frames), first_weights()
    ours = fused_first_layers(kernels, sils, weights)
    theirs, unpooled = torch_first_layers(sils, weights)
    assert ours.shape == (frames, 32, 32, 22) and ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
    gradient = gradient_of_clear_maxima(unpooled)
    gradients = [torch.autograd.grad(y, weights, gradient) for y in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        assert a.shape == b.shape and difference(a, b) < 1e-5


def test_first_layers_pad_like_torch(kernels):
    """The maps of a white frame vary only near its borders, so they show the padding: layer 2 pads the maps of layer 1
    with zeros, and not with the values that layer 1 has outside the frame."""
    skip_if_compiled(kernels, "a GPU rounds float32 products")
    sils, weights = torch.full((1, 64, 44), 255, dtype=torch.uint8), first_weights()
    theirs, _ = torch_first_layers(sils, weights)
    inner = theirs[:, :, 10:11, 10:11]
    for border in (theirs[:, :, 0], theirs[:, :, -1], theirs[:, :, :, 0], theirs[:, :, :, -1]):
        assert (border - inner[..., 0]).abs().max() > 0.1 * theirs.abs().max()
    assert (fused_first_layers(kernels, sils, weights) - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_first_layers_break_ties_like_torch(kernels):
    """The layers copy pixels or negate them, so black and white frames give many blocks with equal elements and many
    zeros. Torch selects the first of equal elements, and the smaller slope at 0."""
    sils = (silhouettes(1) > 127).to(torch.uint8) * 255
    weights = torch.zeros(32, 1, 5, 5), torch.zeros(32, 32, 3, 3)
    channel, sign = torch.arange(32), torch.tensor([1.0, -1.0]).repeat(16)
    weights[0][:, 0, 2, 2] = sign
    weights[1][channel, channel, 1, 1] = sign.roll(1).repeat_interleave(2)[:32]
    weights = [weight.requires_grad_() for weight in weights]
    dtype = torch.float32 if kernels.interpreted else torch.float16  # on a GPU the kernels run in half precision only
    ours = fused_first_layers(kernels, sils, weights, dtype).cpu().float()
    theirs, unpooled = torch_first_layers(sils, weights)
    best = unpooled.detach().unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).topk(2).values
    assert (best[..., 0] == best[..., 1]).float().mean() > 0.2 and (best[..., 0] == 0).any()
    assert torch.allclose(ours, theirs, rtol=1e-3)
    gradient = torch.randint(-8, 9, theirs.shape, generator=torch.Generator().manual_seed(0)).float()
    gradients = [torch.autograd.grad(y, weights, gradient) for y in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        assert difference(a, b) < (1e-5 if kernels.interpreted else 1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_first_layers_in_half_precision_are_as_exact_as_torch(kernels, dtype):
    if kernels.interpreted and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter treats bfloat16 as integers")
    sils, weights = silhouettes(3), first_weights()
    ours = fused_first_layers(kernels, sils, weights, dtype)
    (exact, _), (half, _) = torch_first_layers(sils, weights), torch_first_layers(sils, weights, dtype)
    assert ours.dtype == dtype
    assert difference(ours, exact) < 1.5 * difference(half, exact)
    gradient = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    gradients = [torch.autograd.grad(y, weights, gradient.to(y)) for y in (ours, half, exact)]
    for a, b, c in zip(*gradients, strict=True):
        assert a.dtype == torch.float32 and difference(a, c) < 1.5 * difference(b, c)


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
def test_tensors_for_the_backward_pass_are_saved_only_for_training(kernels, monkeypatch, learning):
    skip_if_compiled(kernels, "independent of the device")
    places = {
        ("first_layers", "_forward_kernel"): 4,
        ("maxima", "_pool_kernel"): 2,
        ("maxima", "_set_maximum_kernel"): 3,
    }
    noted = {}
    for module, name in places:
        noted[name] = RecordingKernel(getattr(getattr(kernels, module), name))
        monkeypatch.setattr(getattr(kernels, module), name, noted[name])
    with torch.set_grad_enabled(learning):
        ends = torch.tensor([0, 1], dtype=torch.int32)
        pooled = kernels.set_layers.pooled_maps(GaitSet(4), silhouettes(1), ends, torch.float32)
    assert all(maps.requires_grad == learning for maps in pooled)
    for (_, name), place in places.items():
        for arguments in noted[name].arguments:
            assert arguments[-1] == learning and (arguments[place].numel() > 0) == learning, name


def test_first_layers_train_after_use_in_inference_mode(kernels):
    """The cached layout must not be an inference tensor if the first call is in inference mode."""
    kernels.first_layers._matrix_layout.cache_clear()
    weights = first_weights()
    with torch.inference_mode():
        fused_first_layers(kernels, silhouettes(1), weights, torch.float16)
    maps = fused_first_layers(kernels, silhouettes(1), weights, torch.float16)
    assert all(gradient.any() for gradient in torch.autograd.grad(maps.float().sum(), weights))


COMPILE = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from model.network.kernels import first_layers, maxima, triplet_counts

half = sys.argv[1]
types = dict.fromkeys(("x", "w1", "w2", "out", "gradient", "maps", "of_maps"), "*" + half)  # others: float32
types |= dict.fromkeys(("blocks", "sequences", "frames"), "i32")
types |= {"codes": "*u8", "ends": "*i32", "largest": "*i32", "margin": "fp32"}
of_maps = dict(FEATURES=22528, BLOCK=512, STEP=8)
for kernel, constants in (
    (first_layers._forward_kernel, dict(BLOCK=first_layers.BLOCK, CODES=True)),
    (first_layers._backward_kernel, dict(BLOCK=first_layers.BLOCK)),
    (maxima._pool_kernel, dict(HALF_WIDTH=11, CHANNELS=64, BLOCK=maxima.BLOCK_CHUNK, CODES=True)),
    (maxima._pool_backward_kernel, dict(HALF_WIDTH=11, CHANNELS=64, BLOCK=maxima.BLOCK_CHUNK)),
    (maxima._set_maximum_kernel, of_maps | dict(KEEP=True)),
    (maxima._spread_kernel, of_maps | dict(ADD=True)),
    (triplet_counts._active_kernel, dict(K=16, N=128, PADDED_K=16, PADDED_N=128)),
):
    signature = {n: "constexpr" if n in constants else types.get(n, "*fp32") for n in kernel.arg_names}
    pointers = [i for i, n in enumerate(kernel.arg_names) if signature[n].startswith("*")]
    aligned = {(i,): [["tt.divisibility", 16]] for i in pointers}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = compile(source, target=GPUTarget("cuda", 86, 32), options={"num_warps": 4, "num_stages": 1})
    print(kernel.__name__, compiled.metadata.shared)
"""


@pytest.mark.slow
@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_kernels_compile_for_the_smallest_shared_memory(half):
    """Compute capability 8.6 has 99 KiB of shared memory per program. Compiling for it needs no GPU."""
    pytest.importorskip("triton", reason="Triton cannot be imported here", exc_type=ImportError)
    run = run_quietly([sys.executable, "-c", COMPILE, half], ROOT, {"TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr[-2000:]
    shared = dict(line.split() for line in run.stdout.splitlines())
    assert len(shared) == 7 and max(map(int, shared.values())) <= 99 << 10


def test_kernels_reject_more_frames_than_32_bits_can_count():
    """A pooled map has 32·22·32 elements per frame."""
    frames = torch.empty(2**31 // (32 * 22 * 32) + 1, 64, 44, dtype=torch.uint8, device="meta")
    with pytest.raises(UserError, match="95326 frames is too large"):
        kernels_package.pooled_maps(
            GaitSet(4), frames, torch.tensor([0, len(frames)], dtype=torch.int32), torch.float16
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pooled_activation_equals_torch_with_ties_and_negative_maxima(kernels, dtype):
    """Small integers: most maxima occur twice (torch selects the first), many are negative or 0."""
    if kernels.interpreted and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter treats bfloat16 as integers")
    maps = torch.randint(-6, 2, (2, 16, 8, 6), generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    # 24 blocks: half of the second program is empty.
    ours = kernels.maxima.PooledActivation.apply(maps.to(kernels.device)).cpu()
    largest = F.max_pool2d(maps, 2)
    assert (largest < 0).any() and (largest == 0).any() and (largest > 0).any()
    theirs = F.leaky_relu(largest, 0.01)
    tolerance = {"rtol": {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype], "atol": 0}
    torch.testing.assert_close(ours, theirs, **tolerance)
    gradient = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (a,), (b,) = torch.autograd.grad(ours, maps, gradient), torch.autograd.grad(theirs, maps, gradient)
    torch.testing.assert_close(a, b, **tolerance)


ENDS = (0, 1, 4, 15)  # one frame, a few, and more than a chunk; the last two frames belong to no sequence


def some_maps() -> torch.Tensor:
    """Return maps [17, 32, 4, 8], channels last, of small integers, so that many frames have equal elements."""
    maps = torch.randint(-3, 3, (17, 32, 4, 8), generator=torch.Generator().manual_seed(0)).float()
    return maps.to(memory_format=torch.channels_last)


def fused_maximum(kernels, maps):
    same, pooled = kernels.maxima.SetMaximum.apply(
        maps.to(kernels.device), torch.tensor(ENDS, dtype=torch.int32, device=kernels.device)
    )
    return same.cpu(), pooled.cpu()


def maximum_by_loops(maps, of_pooled):
    """Return the pooled maps and the gradient of the maps: each maximum gives it to the first frame that holds it."""
    pooled, of_maps = [], torch.zeros_like(maps)
    for (start, end), gradient in zip(pairwise(ENDS), of_pooled, strict=True):
        pooled.append(maps[start:end].amax(0))
        given = torch.zeros_like(maps[0], dtype=torch.bool)
        for frame in range(start, end):
            first = (maps[frame] == pooled[-1]) & ~given
            of_maps[frame] = torch.where(first, gradient, 0)
            given |= first
    return torch.stack(pooled), of_maps


@pytest.mark.parametrize("maps_used", [False, True], ids=["pooled only", "maps used too"])
def test_set_maximum_sends_its_gradient_to_the_first_of_equal_frames(kernels, maps_used):
    maps = some_maps().requires_grad_()
    same, pooled = fused_maximum(kernels, maps)
    of_pooled, of_same = torch.randn(pooled.shape), torch.randn(maps.shape)
    expected, of_maps = maximum_by_loops(maps.detach(), of_pooled)
    assert torch.equal(same, maps) and torch.equal(pooled, expected)
    outputs, gradients = ((same, pooled), (of_same, of_pooled)) if maps_used else (pooled, of_pooled)
    (ours,) = torch.autograd.grad(outputs, maps, gradients)
    assert torch.equal(ours, of_maps + of_same if maps_used else of_maps)
    of_none = ours[ENDS[-1] :]
    assert torch.equal(of_none, of_same[ENDS[-1] :] if maps_used else torch.zeros_like(of_none))


def test_unused_set_maximum_passes_on_the_gradient_of_the_maps(kernels):
    maps = some_maps().requires_grad_()
    same, _ = fused_maximum(kernels, maps)
    gradient = torch.randn(maps.shape)
    assert torch.equal(torch.autograd.grad(same, maps, gradient)[0], gradient)


@pytest.mark.parametrize("frame", [4, 9, 14], ids=["first", "middle", "last"])
def test_set_maximum_propagates_nan(kernels, frame):
    maps = some_maps()
    maps[frame, 5, 2, 1] = torch.nan
    _, pooled = fused_maximum(kernels, maps)
    assert pooled[2, 5, 2, 1].isnan() and pooled.isnan().sum() == 1


def test_embeddings_and_gradients_equal_the_reference_network(kernels):
    """If two elements are nearly equal, rounding decides which is the maximum. One such pair among tens of thousands
    changes the gradients of the layers below by a few thousandths, so one of two initializations must agree."""
    skip_if_compiled(kernels, "a GPU rounds float32 products")
    differences = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network, sils = GaitSet(16), silhouettes(4)
        ends = torch.tensor([0, 2, 3], dtype=torch.int32)  # the fourth frame belongs to no sequence
        ours = network.embed(*kernels.set_layers.pooled_maps(network, sils, ends, torch.float32))
        theirs = network(sils[:3].float() / 255, lengths=[2, 1])
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
        gradient = torch.randn(theirs.shape)
        gradients = [torch.autograd.grad(y, list(network.parameters()), gradient) for y in (ours, theirs)]
        differences.append([difference(a, b) for a, b in zip(*gradients, strict=True)])
    for (name, _), of_both in zip(network.named_parameters(), zip(*differences, strict=True), strict=True):
        assert min(of_both) < 1e-5 and max(of_both) < 0.01, (name, of_both)


@torch.no_grad()
def test_kernels_support_further_channels(kernels):
    skip_if_compiled(kernels, "a GPU rounds float32 products")
    assert kernels_package.supports((32, 32, 96))
    torch.manual_seed(0)
    network, sils = GaitSet(4, channels=(32, 32, 96)), silhouettes(2)
    ours = kernels.set_layers.pooled_maps(network, sils, torch.tensor([0, 2], dtype=torch.int32), torch.float32)
    for a, b in zip(ours, network.pooled_maps(sils[None]), strict=True):
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
        (CPU, None, False),
        (kernels.device, dtype, False),
        (kernels.device, dtype, True),
    ):
        embeddings = network.to(device)(sils.to(device)).float()
        gradient = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0)).to(device)
        results.append([embeddings, *torch.autograd.grad(embeddings, list(network.parameters()), gradient)])
    for exact, half, ours in zip(*results, strict=True):
        assert difference(ours, exact) < 1.5 * difference(half, exact)


def some_distances(p: int, k: int) -> torch.Tensor:
    x = torch.randn(3, p * k, 8, generator=torch.Generator().manual_seed(p * 10 + k))
    return triplet.pairwise_distance(x * torch.tensor([0.03, 0.1, 0.3])[:, None, None])


@pytest.mark.parametrize(("p", "k"), [(2, 1), (3, 5), (4, 4)])
def test_active_triplets_equal_the_reference(kernels, p, k):
    dist, n = some_distances(p, k), p * k
    own = torch.arange(n)[:, None] // k == torch.arange(n)[None, :] // k
    positive = dist[:, own].view(-1, n, k)
    ours = [part.cpu() for part in kernels.triplet_counts.active_triplets(dist.to(kernels.device), k, 0.2)]
    theirs = triplet.active_triplets(dist, positive, own, 0.2)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert torch.equal(ours[1], theirs[1]) and torch.equal(ours[2], theirs[2])
    assert 0 < ours[1].sum() < 3 * n * k * (n - k)  # some triplets are active and some are not


@pytest.mark.parametrize("column", [3, 7], ids=["positive", "negative"])
def test_nan_distances_do_not_count_as_inactive_triplets(kernels, column):
    dist = some_distances(3, 5)
    dist[1, 2, column] = torch.nan
    excess, _, _ = kernels.triplet_counts.active_triplets(dist.to(kernels.device), 5, 0.2)
    assert excess.isnan().nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("bad", [False, True], ids=["finite", "nan"])
def test_losses_are_equal_with_and_without_the_kernel(kernels, monkeypatch, bad):
    batch = torch.randn(15, 3, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    if bad:
        batch[4, 1, 2] = torch.nan
    results = []
    for works in (True, False):
        monkeypatch.setattr(triton_support, "works", lambda device, works=works: works)
        leaf = batch.clone().requires_grad_()
        losses = triplet_losses(leaf.to(kernels.device), 3, 5, 0.2).full.cpu()
        losses.sum().backward()
        results.append((losses.detach(), leaf.grad))
    (ours, ours_grad), (theirs, theirs_grad) = results
    assert ours.isnan().tolist() == [False, bad, False]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0, equal_nan=True)
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-4, atol=1e-6, equal_nan=True)
