"""Silhouettes from videos of walking people, as a raw tree for pretreatment.

    python -m model.silhouettes --video walk.mp4 --output TREE

`video` reads frames, `background` or `mask_rcnn` finds people in each frame, `tracking` follows them, `extraction`
writes one sequence per track, and `preview` draws the result.
"""
