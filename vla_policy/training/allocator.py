"""Keeps the memory that a training step frees for the next one."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
_TOP_PAD_BYTES = 64 * 1024**2
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes this process's malloc reuse large blocks; returns whether it could (glibc only).

    glibc gives what is freed at the end of its heap, and every block over 32 MB, back to the system. A training step on
    the CPU frees and asks for the same large tensors again and again, and every page of them is then cleared anew: a
    million page faults in ten seconds of the Meta-World training. The process keeps its peak of memory instead.

    Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
