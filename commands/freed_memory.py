"""Keeps memory that was freed, so that the next step need not ask the system for it again.

A training step frees some hundred megabytes and takes as many again. The GNU allocator hands them
back to the system in between and has every page zeroed anew: a tenth of the time on a CPU.
"""

import ctypes
import os
import platform

# Named as in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Blocks above the first size, such as whole volumes, are still handed back at once.
_MMAP_ABOVE = 64 * 2**20
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Ask the allocator to keep up to 1 GiB that was freed.

    Returns:
        Whether it does; only the GNU C library has such a setting, and one made by the environment
        (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``) is left alone.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ)
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_M_MMAP_THRESHOLD, _MMAP_ABOVE), (_M_TRIM_THRESHOLD, _KEPT))
    return all(library.mallopt(name, size) == 1 for name, size in settings)
