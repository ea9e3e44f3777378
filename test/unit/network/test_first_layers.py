"""Compare the Triton kernels of layers 1 and 2 with torch."""

import pytest
import torch
import torch.nn.functional as F
from random_silhouettes import difference, silhouettes, with_black_half


def first_weights(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    shapes = (32, 1, 5, 5), (32, 32, 3, 3)
    return tuple(torch.nn.init.xavier_uniform_(torch.empty(shape)).requires_grad_() for shape in shapes)


def fused_first_layers(kernels, sils, weights, dtype=torch.float32):
    on_device = [each.to(kernels.device) for each in (sils, *weights)]
    return kernels.first_layers.FirstLayers.apply(*on_device, dtype)


def torch_first_layers(sils, weights, dtype=torch.float32):
    """Return the maps of layer 2, computed by torch in `dtype`, and the same maps before max pooling."""
    weight1, weight2 = (weight.to(dtype) for weight in weights)
    maps = F.leaky_relu(F.conv2d(sils[:, None].to(dtype) / 255, weight1, padding=2), 0.01)
    unpooled = F.conv2d(maps, weight2, padding=1)
    return F.leaky_relu(F.max_pool2d(unpooled, 2), 0.01), unpooled


def gradient_of_clear_maxima(unpooled: torch.Tensor) -> torch.Tensor:
    """Return a random gradient of the pooled maps, which is 0 where rounding decides the maximum or its sign."""
    best = unpooled.detach().unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).topk(2).values
    clear = torch.minimum(best[..., 0] - best[..., 1], best[..., 0].abs()) > 1e-5 * best.abs().max()
    assert clear[best.any(-1).flatten(1).any(1)].float().mean() > 0.5
    return torch.randn(clear.shape, generator=torch.Generator().manual_seed(0)) * clear


@pytest.mark.parametrize(
    ("frames", "block", "black"),
    [(1, 64, False), (1, 128, False), (3, 512, True)],
    ids=["default", "half a tile", "tiles of a list with gaps"],
)
def test_first_layers_equal_torch(exact_kernels, monkeypatch, frames, block, black):
    """Places past the last block must have no effect. 704 blocks per frame are a multiple of 64, not of 128 or 512."""
    monkeypatch.setattr(exact_kernels.first_layers, "BLOCK", block)
    sils, weights = silhouettes(frames), first_weights()
    if black:
        sils = with_black_half(sils)
    ours = fused_first_layers(exact_kernels, sils, weights)
    theirs, unpooled = torch_first_layers(sils, weights)
    assert ours.shape == (frames, 32, 32, 22) and ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
    gradient = gradient_of_clear_maxima(unpooled)
    assert (gradient == 0).all(1).any() == black
    gradients = [torch.autograd.grad(y, weights, gradient) for y in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        assert a.shape == b.shape and difference(a, b) < 1e-5


def test_first_layers_pad_like_torch(exact_kernels):
    """Layer 2 must pad the maps of layer 1 with zeros, and not with the values that layer 1 would have outside the
    frame. A white frame shows the padding, because its maps vary only near the borders."""
    sils, weights = torch.full((1, 64, 44), 255, dtype=torch.uint8), first_weights()
    theirs, _ = torch_first_layers(sils, weights)
    inner = theirs[:, :, 10:11, 10:11]
    for border in (theirs[:, :, 0], theirs[:, :, -1], theirs[:, :, :, 0], theirs[:, :, :, -1]):
        assert (border - inner[..., 0]).abs().max() > 0.1 * theirs.abs().max()
    assert (fused_first_layers(exact_kernels, sils, weights) - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_first_layers_break_ties_like_torch(kernels):
    """The weights make each layer copy or negate pixels, so black and white frames give many blocks with equal elements
    and many zeros. torch selects the first of equal elements, and the smaller slope of LeakyReLU at 0."""
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
    sils, weights = with_black_half(silhouettes(3)), first_weights()
    ours = fused_first_layers(kernels, sils, weights, dtype)
    (exact, _), (half, _) = torch_first_layers(sils, weights), torch_first_layers(sils, weights, dtype)
    assert ours.dtype == dtype
    assert difference(ours, exact) < 1.5 * difference(half, exact)
    gradient = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    gradients = [torch.autograd.grad(y, weights, gradient.to(y)) for y in (ours, half, exact)]
    for a, b, c in zip(*gradients, strict=True):
        assert a.dtype == torch.float32 and difference(a, c) < 1.5 * difference(b, c)


def test_first_layers_train_after_use_in_inference_mode(kernels):
    """The cached layout must not be an inference tensor if the first call is in inference mode."""
    kernels.first_layers.matrix_layout.cache_clear()
    weights = first_weights()
    with torch.inference_mode():
        fused_first_layers(kernels, silhouettes(1), weights, torch.float16)
    maps = fused_first_layers(kernels, silhouettes(1), weights, torch.float16)
    assert all(gradient.any() for gradient in torch.autograd.grad(maps.float().sum(), weights))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_frames_are_padded_and_scaled_as_by_torch(kernels, dtype):
    sils = silhouettes(3)
    ours, _, _ = kernels.active_blocks.pad_frames(sils.to(kernels.device), dtype)
    assert torch.equal(ours.cpu(), F.pad(sils.to(dtype).div_(255), (3,) * 4))


def test_active_blocks_are_those_that_see_a_pixel(kernels):
    """Inactive blocks of the maps must be set to 0. Three frames have one pixel each, in a corner or in the middle. One
    frame is black, and the last frame is white."""
    sils = torch.zeros(5, 64, 44, dtype=torch.uint8)
    sils[0, 0, 0] = sils[1, 63, 43] = sils[3, 30, 21] = 1
    sils[4] = 255
    _, *found = kernels.active_blocks.pad_frames(sils.to(kernels.device), torch.float16)
    maps = torch.ones(5 * 704, 32, device=kernels.device)
    active, count = kernels.active_blocks.list_blocks(*found, maps)
    seen = F.max_pool2d(F.pad(sils.float(), (3,) * 4)[:, None], 8, 2).flatten() > 0
    assert count.shape == (1,) and seen[704 * 4 :].all() and 0 < seen[: 704 * 4].sum() < 60
    assert torch.equal(active[: int(count)].cpu().long(), seen.nonzero()[:, 0])
    assert torch.equal(maps.cpu(), seen[:, None].float().expand(-1, 32))


def test_black_frames_have_zero_maps_and_no_gradients(kernels):
    weights = first_weights()
    maps = fused_first_layers(kernels, torch.zeros(2, 64, 44, dtype=torch.uint8), weights, torch.float16)
    gradients = torch.autograd.grad(maps.sum(), weights)
    assert maps.shape == (2, 32, 32, 22) and not maps.any() and not any(each.any() for each in gradients)
