"""Synthetic walkers: silhouettes of generated people, with the subjects, takes and views of a data set like CASIA-B.

    python -m model.synthetic --output_path DIR --subjects 30

`anthropometry` and `body` draw the bodies, `curves`, `gait_spreads` and `gait` the gaits, `clothing` and `luggage` the
clothes and bags. `skeleton` poses the bodies, and `flesh` builds figures (`figure`) on the skeletons. `render` fills
the silhouettes that the cameras (`camera`) see, and `segmentation` adds the noise that `noise` draws. `walkers`
combines these steps for many takes at once, on any device, with the settings of `settings`. `tree_writer` writes raw
frames. `store_writer` aligns the frames (`alignment`) and writes a packed store. `preview` draws pictures, and `video`
films walkers in colour.
"""
