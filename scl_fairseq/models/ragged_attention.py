"""Attention within sentences of any length by one kernel of torch's, on a GPU.

Nested tensors come to two operators of torch's in the end. What they add on the way costs the host
milliseconds a layer, more than the kernels take, so the operators are called as they are, and
nested tensors serve what those do not take. torch differentiates all of them.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from scl_fairseq.models.packing import Packing

FLASH, EFFICIENT, NESTED = "flash", "efficient", "nested"
HALVES = (torch.float16, torch.bfloat16)
# The operators are no public part of torch: what is handed to them by position has to have these
# names and this order, otherwise they are not used.
OPERATORS = {
    FLASH: (
        "_flash_attention_forward",
        ("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p",
         "is_causal", "return_debug_mask"),
    ),
    EFFICIENT: (
        "_efficient_attention_forward",
        ("query", "key", "value", "bias", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q",
         "max_seqlen_k", "dropout_p", "custom_mask_type", "compute_log_sumexp"),
    ),
}  # fmt: skip
# Rows of a head are read in pieces of 16 bytes. Wider heads have no backward on some GPUs.
MULTIPLE, WIDEST_OF_FLASH = 8, 192
AMPERE = (8, 0)  # the first GPUs with bfloat16, and with the flash kernel


def has_ragged_kernel(device: torch.device) -> bool:
    """Whether torch attends within sentences of any length by one kernel on the device."""
    return device.type == "cuda" and hasattr(torch.nested, "nested_tensor_from_jagged")


def attend_ragged(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    heads: int,
    scaling: float,
    dropout: float,
) -> Tensor:
    """``packed_attention.attend`` for sentences that are packed one after another."""
    query, key, value = _autocast(query, key, value)
    kernel = kernel_for(query.dtype, query.size(1) // heads, query.device)
    attend = _by_nested_tensors if kernel == NESTED else functools.partial(_by_operator, kernel)
    return attend(query, key, value, packing, heads, scaling, dropout)


def kernel_for(dtype: torch.dtype, width: int, device: torch.device) -> str:
    """Which kernel takes heads of a width: ``FLASH``, ``EFFICIENT``, or ``NESTED`` for neither.

    Kernels that a user has switched off (``torch.backends.cuda.enable_flash_sdp``) are not taken.
    """
    if device.type != "cuda" or width % MULTIPLE:
        return NESTED
    backends, is_recent = torch.backends.cuda, capability(device) >= AMPERE
    if (
        dtype in HALVES
        and is_recent
        and width <= WIDEST_OF_FLASH
        and backends.flash_sdp_enabled()
        and is_offered(FLASH)
    ):
        return FLASH
    is_taken = dtype in (torch.float16, torch.float32) or (dtype == torch.bfloat16 and is_recent)
    if is_taken and backends.mem_efficient_sdp_enabled() and is_offered(EFFICIENT):
        return EFFICIENT
    return NESTED


@functools.cache
def is_offered(kernel: str) -> bool:
    """Whether this build of torch has the operator, with the arguments that it is called by."""
    name, leading = OPERATORS[kernel]
    if torch.version.hip is not None:  # by the same names AMD's GPUs have kernels of their own
        return False
    if kernel == FLASH and not torch.backends.cuda.is_flash_attention_available():
        return False
    operator = getattr(torch.ops.aten, name, None)
    if operator is None:
        return False
    names = [argument.name for argument in operator.default._schema.arguments]
    return tuple(names[: len(leading)]) == leading and "scale" in names[len(leading) :]


@functools.cache
def capability(device: torch.device) -> tuple[int, int]:
    """A GPU's generation."""
    return torch.cuda.get_device_capability(device)


def _autocast(*parts: Tensor) -> tuple[Tensor, ...]:
    """In autocast's type, as torch does it for attention; it does not know the operators."""
    device = parts[0].device.type
    if device != "cuda" or not torch.is_autocast_enabled(device):
        return parts
    dtype = torch.get_autocast_dtype(device)
    return tuple(part if part.dtype == torch.float64 else part.to(dtype) for part in parts)


def _by_operator(
    kernel: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    heads: int,
    scaling: float,
    dropout: float,
) -> Tensor:
    shape = query.shape
    offsets, longest = packing.offsets, packing.longest
    reads_all = len(query) == len(key)
    ends = (offsets, offsets, longest, longest)
    if not reads_all:
        ends = (packing.first_offsets, offsets, 1, longest)
    parts = [part.reshape(len(part), heads, -1) for part in (query, key, value)]
    operator = getattr(torch.ops.aten, OPERATORS[kernel][0])
    if kernel == FLASH:
        found = operator(*parts, *ends, dropout, False, False, scale=scaling)[0]
    else:
        records = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
        parts = [part.unsqueeze(0) for part in parts]
        found = operator(*parts, None, *ends, dropout, 0, records, scale=scaling)[0]
    return found.reshape(shape)


def _by_nested_tensors(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    heads: int,
    scaling: float,
    dropout: float,
) -> Tensor:
    def nested(rows: Tensor, offsets: Tensor, longest: int) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(
            rows.unflatten(1, (heads, -1)), offsets.long(), min_seqlen=1, max_seqlen=longest
        ).transpose(1, 2)

    offsets, longest = packing.offsets, packing.longest
    if len(query) == len(key):
        queries = nested(query, offsets, longest)
    else:
        queries = nested(query, packing.first_offsets, 1)
    found = F.scaled_dot_product_attention(
        queries,
        nested(key, offsets, longest),
        nested(value, offsets, longest),
        dropout_p=dropout,
        scale=scaling,
    )
    return found.transpose(1, 2).values().reshape(query.shape)
