"""Write pictures as an animated GIF file, atomically."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from model.common.files import atomic_file

if TYPE_CHECKING:  # only previews need it
    from PIL.Image import Image


def write_gif(path: Path | str, pictures: "Iterable[Image]", milliseconds: float) -> None:
    """Write a GIF that repeats forever and shows each picture for `milliseconds`."""
    first, *others = pictures
    with atomic_file(path) as part:
        first.save(part, "GIF", save_all=True, append_images=others, duration=round(milliseconds), loop=0)
