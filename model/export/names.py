"""Names of inputs and outputs of the exported models; here, because what runs them should not need torch."""

INPUT_NAME = "image_seq"  # of static models: float32 of 0 to 1
SILS_NAME = "sils"  # of models for whole sequences: uint8 as stored
OUTPUT_NAME = "feature"
POOLED = (2, 4, 6)  # the set layers whose maps set pooling reads
# With the number of one of these layers: set-pooled maps of the pieces before, and of those up to this one.
EARLIER, MAXIMA = "earlier", "maxima"
