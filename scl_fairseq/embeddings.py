"""Names of the vectors that may stand for a sentence, where everything finds them."""

CLS, POOLED, MEAN = EMBEDDINGS = ("cls", "pooled", "mean")
POOLINGS = (CLS, MEAN)  # what a classification head may read of the last layer
HEAD = "head"  # for an option: whatever that is
CONTRASTED = "contrasted"  # which one an encoder's training contrasted, in its checkpoint's state
