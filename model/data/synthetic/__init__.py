"""Synthetic walkers: silhouettes of people who do not exist, in the shape of CASIA-B.

    python -m model.data.synthetic --output_path DIR --subjects 30

A subject is a body (`body`) with a gait (`gait`, `skeleton`) in clothes (`clothing`, `flesh`, `luggage`), seen by a
camera (`camera`), filled in (`render`) and spoilt as real segmentation is (`noise`). `walkers` binds these
together, `tree` writes them to disk, `preview` draws a contact sheet.
"""

from model.data.synthetic.camera import FPS, HEIGHT, VIEWS, WIDTH
from model.data.synthetic.preview import contact_sheet, write_preview
from model.data.synthetic.tree import Recipe, write_tree
from model.data.synthetic.walkers import CONDITIONS, SEQ_TYPES, render_sequence

__all__ = [
    "CONDITIONS",
    "FPS",
    "HEIGHT",
    "SEQ_TYPES",
    "VIEWS",
    "WIDTH",
    "Recipe",
    "contact_sheet",
    "render_sequence",
    "write_preview",
    "write_tree",
]
