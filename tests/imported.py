"""What ``tests.forked`` forks from: fairseq's commands, imported."""

import gc

import fairseq_cli.train
import fairseq_cli.validate  # noqa: F401

# An optimizer and a wrapper for several workers import these, a second more, as they are made.
import torch._dynamo
import torch.distributed.fsdp  # noqa: F401
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

# Hydra looks for its plug-ins and its parser builds tables, when the first arguments are read.
parser = options.get_training_parser()
words = ["data", "--task", "sentence_prediction", "--criterion", "sentence_prediction"]
convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, [*words, "--arch", "roberta"]))

# A child's garbage collection would otherwise write to all of it, which copies it.
gc.freeze()
