"""From a table of texts to a training that is right: what to train with."""
