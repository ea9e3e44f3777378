"""Synthetic walkers: silhouettes of people who do not exist, in the shape of CASIA-B.

    python -m model.synthetic --output_path DIR --subjects 30

A subject is a body (`body`) with a gait (`gait`, `skeleton`) in clothes (`clothing`, `flesh`, `luggage`), seen by
cameras (`camera`), filled in (`render`) and spoilt as real segmentation is (`segmentation`), many takes at once on any
device. `walkers` binds these together, `recipe` says which to make, `tree` writes them as raw frames, `packed` aligns
them (`alignment`) straight into a packed store, `preview` draws them to look at.
"""

from model.synthetic.camera import FPS, HEIGHT, VIEWS, WIDTH
from model.synthetic.packed import write_store
from model.synthetic.preview import animation, contact_sheet, write_animation, write_preview
from model.synthetic.recipe import Recipe
from model.synthetic.tree import write_tree
from model.synthetic.walkers import CONDITIONS, SEQ_TYPES, Takes, World, render_sequence

__all__ = [
    "CONDITIONS",
    "FPS",
    "HEIGHT",
    "SEQ_TYPES",
    "VIEWS",
    "WIDTH",
    "Recipe",
    "Takes",
    "World",
    "animation",
    "contact_sheet",
    "render_sequence",
    "write_animation",
    "write_preview",
    "write_store",
    "write_tree",
]
