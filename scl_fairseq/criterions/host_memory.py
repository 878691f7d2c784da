"""What the C library does with the memory of tensors that are freed, on a CPU.

Nothing here has an effect with other C libraries than glibc.
"""

import ctypes
import functools

# Parameters of glibc's mallopt (malloc.h), and the largest values that it takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_TRIM, LARGEST_MMAP = 2**31 - 1, 32 * 2**20


def return_freed_memory() -> None:
    """Give what the C library holds but nobody uses back to the system.

    Of its own accord glibc gives back only what lies at the end. Small tensors that stay then pin
    the large freed ones between them, and a batch in many chunks takes half as much memory again as
    one chunk.
    """
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library use freed memory again, instead of giving it back each time.

    glibc learns from the largest freed tensor how much to keep. Those of packed batches are small:
    the optimizer's temporaries, as large as the largest weight, were then given back and mapped
    anew at every update, page by page, which cost Adam half as much time again.
    """
    library = _c_library()
    if library is not None:
        # Both: naming one ends the learning.
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP)
        library.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM)


@functools.cache
def _c_library() -> ctypes.CDLL | None:
    """glibc, or None where that is another."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version, library.malloc_trim, library.mallopt  # noqa: B018
    except (OSError, AttributeError):
        return None
    return library
