from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource, sys, torch
from vla_policy.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def work():
    for _ in range(20):
        torch.ones(12_000_000)  # 48 MB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_large_tensors_are_made_in_memory_that_was_freed_before() -> None:
    faults = {}
    for how in ("keep", "leave"):
        command = [sys.executable, "-c", _COUNT_FAULTS, how]
        faults[how] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["keep"] * 20 < faults["leave"], faults
