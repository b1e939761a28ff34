from __future__ import annotations

import signal

import pytest

from vla_policy.interrupt import StopRequest


def test_the_first_signal_is_a_request_and_the_second_acts_as_usual() -> None:
    with StopRequest() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
