"""What `vla_policy` itself offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vla_policy


def test_every_name_is_there() -> None:
    assert all(getattr(vla_policy, name).__name__ == name for name in vla_policy.__all__)
    assert set(vla_policy.__all__) <= set(dir(vla_policy))


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(AttributeError, match="no attribute 'CrossAtention'; did you mean 'CrossAttention'"):
        _ = vla_policy.CrossAtention


def test_the_import_is_light() -> None:
    code = "import sys, vla_policy; print(sorted({'torch', 'numpy', 'tokenizers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]", done
