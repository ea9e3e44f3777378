"""Synthetic walkers: silhouettes of generated people, in the structure of CASIA-B.

    python -m model.synthetic --output_path DIR --subjects 30

A subject has a body (`anthropometry`, `body`), a gait (`curves`, `gait_spreads`, `gait`, `skeleton`) and clothes
(`clothing`, `flesh`, `luggage`). Cameras (`camera`) see the figure (`figure`); `render` fills its silhouette and
`segmentation` adds the noise of `noise`, for many takes on any device. `walkers` combines these steps. `settings`
holds the settings. `tree_writer` writes raw frames; `store_writer` aligns them (`alignment`) and writes a packed store;
`preview` draws pictures, and `video` films walkers in colour.
"""
