"""Constants that several parts of the program share: sizes of frames and embeddings, labels, and number types."""

import numpy as np

FRAME_HEIGHT, FRAME_WIDTH = 64, 44  # size of a frame that the network reads
ALIGNED_WIDTH = 64  # width of a frame that pretreatment writes; loading removes ten columns on each side

# Numbers of strips at the levels of the horizontal pyramid. The paper and the parameter `fc_bin` call a strip a bin.
PYRAMID = (1, 2, 4, 8, 16)
STRIPS = 2 * sum(PYRAMID)  # strips of an embedding: 31 of the set branch and 31 of the global branch

SET_CHANNELS = (32, 64, 128)  # channels in the paper: of set layers 1 and 2, of layers 3 and 4, of layers 5 and 6

LABELS = ("subject", "seq_type", "view")  # the labels of a sequence

FLOAT32 = np.dtype("<f4")  # little-endian, in input and result files
