"""What ``tests.forked`` forks from: fairseq's commands, imported."""

import gc

import fairseq_cli.train
import fairseq_cli.validate  # noqa: F401

# An optimizer and a wrapper for several workers import these, a second more, as they are made.
import torch._dynamo
import torch.distributed.fsdp  # noqa: F401

# A child's garbage collection would otherwise write to all of it, which copies it.
gc.freeze()
