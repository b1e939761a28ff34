"""Where a result comes from: machine, command, date and commit, the head of every result file."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_VECTOR_UNITS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bf16"}
_ROOT = Path(__file__).resolve().parents[1]


def describe_run() -> dict[str, str]:
    """Returns ``{"machine", "command", "date", "commit"}`` of the running process, as texts."""
    return {
        "machine": describe_machine(),
        "command": _command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def describe_machine() -> str:
    """Returns processor, usable cores, memory, system and the versions that matter for numbers, in one line."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"Python {platform.python_version()}"]
    for package in ("torch", "mujoco"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    cores = len(os.sched_getaffinity(0))
    return ", ".join([_processor(), f"{cores} cores", f"{memory_gb:.0f} GB", platform.system(), *versions])


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    words = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name, flags = words.get("model name", platform.machine()), words.get("flags", "").split()
    # What decides the speed of a policy on a CPU; the model name of a virtual machine often does not tell.
    vectors = [shown for flag, shown in _VECTOR_UNITS.items() if flag in flags]
    return f"{name} ({', '.join(vectors)})" if vectors else name


def _command() -> str:
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        return shlex.join([program.name, *sys.argv[1:]])
    name = program.resolve()
    shown = name.relative_to(_ROOT) if name.is_relative_to(_ROOT) else name
    return shlex.join(["python", str(shown), *sys.argv[1:]])


def _commit() -> str:
    """Returns the checkout's commit, with ``-dirty`` when tracked files differ; ``unknown`` outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
