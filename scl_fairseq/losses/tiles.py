"""How large tiles of the similarity matrix are, and how many are kept, by the free memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Rows and columns of a tile; what fits in one is not computed in tiles. On a CPU it should stay in
# cache, on a GPU occupy the device (that number is not measured on a GPU yet). A GPU with little
# free memory has smaller ones, by halves: a little more or less memory changes no rounding.
CPU_TILE = 512
GPU_TILE = 4096
# Matrices of a tile's size that are there at a time, and the share of the free memory for them.
TEMPORARIES = 4
SHARE = 0.25


def tile_for(device: torch.device) -> int:
    """Rows of a tile on a device."""
    if device.type != "cuda":
        return CPU_TILE
    tile, most = GPU_TILE, SHARE * free_memory(device)
    while tile > CPU_TILE and TEMPORARIES * 4 * tile**2 > most:
        tile //= 2
    return tile


def exceeds_tile(number: int, device: torch.device) -> bool:
    """Whether so many similarities are more than one tile has."""
    # Memory is asked for only where its answer may matter.
    return number > CPU_TILE**2 and number > tile_for(device) ** 2


def room_for_tiles(features: Tensor, tile: int) -> int:
    """Numbers that tiles may hold until backward."""
    if features.device.type != "cuda":
        return features.numel()
    # Half: backward goes on through the encoder, and needs the gradient here.
    size = features.element_size()
    needed = size * (features.numel() + TEMPORARIES * tile**2)
    return max(0, free_memory(features.device) - needed) // 2 // size


def blocks(rows: slice, size: int) -> Iterator[slice]:
    """Rows in blocks of so many, the last one of what is left."""
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a GPU; nothing waits for it.

    What no process holds and what torch holds unused, and no more than a limit leaves that
    ``torch.cuda.set_per_process_memory_fraction`` has set (where torch tells it: from 2.8 on).
    """
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    found = free + torch.cuda.memory_reserved(device) - allocated
    fraction_of = getattr(torch.cuda, "get_per_process_memory_fraction", None)
    if fraction_of is not None:
        found = min(found, int(fraction_of(device) * total) - allocated)
    return max(0, found)
