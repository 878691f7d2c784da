"""The search that ``scl_fairseq.training.recipes`` rests on: on dev sets only."""
