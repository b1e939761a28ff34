from __future__ import annotations

from vla_policy.control.executor import SeamJump
from vla_policy.control.monitor import PolicyMonitor


def test_words_report_rates_latencies_ages_and_holds() -> None:
    monitor = PolicyMonitor()
    assert monitor.published_rate.hz(0.0) == 0.0
    for i in range(5):
        jump = SeamJump(0.1, 0.5) if i else None
        monitor.chunk(inference_s=0.02, latency_s=0.03, seam_jump=jump, eased=2 * (i == 3), now_s=i * 0.5)
    monitor.hold("seam_jump", "elbow is too far")
    for i in range(4):
        monitor.receive("camera front", 0.1 * i)
        monitor.command(0.001 * i)
    words = monitor.words({"camera front": 0.05, "camera wrist": None}, now_s=0.4, clock_s=2.0)
    assert words["camera front rate_hz"] == "10.0" and words["camera wrist rate_hz"] == "0.0"
    assert words["commands_published"] == "4" and words["command_lateness_ms p50"] == "1.500"
    assert words["chunk_rate_hz"] == "2.00"
    assert words["inference_ms p50"] == "20.000"
    assert words["stamp_to_chunk_ms p99"] == "30.000"
    assert words["seam_jump p50"] == "0.100" and words["seam_jump_per_s p99"] == "0.500"
    assert words["chunks_eased"] == "1"
    assert words["holds seam_jump"] == "1" and "elbow" in words["last_hold"]
    assert words["camera wrist age_s"] == "never"
    assert monitor.words({}, now_s=20.0, clock_s=20.0)["chunk_rate_hz"] == "0.00"
