"""Triton's interpreter, where there is no GPU: it has to be asked for before kernels are read."""

import importlib.util
import os

import torch

if importlib.util.find_spec("triton") and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
