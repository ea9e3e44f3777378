"""Extract the silhouettes of walking people from videos, as a raw tree for pretreatment.

    python -m model.silhouettes --video walk.mp4 --output TREE

`background` or `mask_rcnn` finds people in each frame, `tracking` follows them from frame to frame, `extraction` writes
one sequence per track, and `preview` draws the result.
"""
