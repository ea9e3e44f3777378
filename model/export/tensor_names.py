"""Names of the inputs and outputs of exported models; importing them does not need torch."""

INPUT_NAME = "image_seq"  # static models: float32 pixels from 0 to 1
SILS_NAME = "sils"  # variable-length models: uint8 pixels as stored
OUTPUT_NAME = "feature"
POOLED = (2, 4, 6)  # set layers whose maps are set-pooled
# A variable-length model takes long sequences in chunks. With a layer number from POOLED appended, these name the
# maximum over all earlier chunks (input) and the maximum including this chunk (output).
EARLIER, MAXIMA = "earlier", "maxima"
