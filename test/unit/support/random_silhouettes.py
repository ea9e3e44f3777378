"""Make random silhouettes for the tests of the network, and compute the relative difference of two tensors."""

import torch


def silhouettes(frames: int, seed: int = 0) -> torch.Tensor:
    """Return uint8 [frames, 64, 44]: coarse shapes and grey noise, which touch all four borders of each frame."""
    generator = torch.Generator().manual_seed(seed)
    figure = torch.rand(frames, 8, 6, generator=generator) > 0.5
    figure = figure.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :, :44].to(torch.uint8) * 255
    noise = torch.randint(256, figure.shape, dtype=torch.uint8, generator=generator)
    sils = torch.where(torch.rand(figure.shape, generator=generator) < 0.2, noise, figure)
    for border in (sils[:, 0], sils[:, -1], sils[:, :, 0], sils[:, :, -1]):
        assert (border > 0).any(1).all()
    return sils


def with_black_half(sils: torch.Tensor) -> torch.Tensor:
    """Return the silhouettes with the middle half of each frame black, and with an entirely black last frame."""
    sils = sils.clone()
    sils[:, 9:50, 13:40] = 0
    sils[-1] = 0
    return sils


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the norm of the difference, relative to the norm of `theirs`."""
    ours, theirs = ours.cpu().double(), theirs.cpu().double()
    return ((ours - theirs).norm() / theirs.norm()).item()
