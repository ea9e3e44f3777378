"""Sizes of frames and embeddings, label columns and number types that several parts of the program share."""

import numpy as np

FRAME_HEIGHT, FRAME_WIDTH = 64, 44  # of a frame that the network reads
ALIGNED_WIDTH = 64  # of a frame that pretreatment writes; ten columns per side are removed when it is loaded

# Numbers of strips per level of the pyramid. The paper and the parameter `fc_bin` call a strip a bin.
PYRAMID = (1, 2, 4, 8, 16)
STRIPS = 2 * sum(PYRAMID)  # of an embedding: 31 of the set branch and 31 of the global branch

SET_CHANNELS = (32, 64, 128)  # of the maps of set layers 1 and 2, 3 and 4, 5 and 6 in the paper

LABELS = ("subject", "seq_type", "view")  # of a sequence

FLOAT32 = np.dtype("<f4")  # little-endian, in input and result files
