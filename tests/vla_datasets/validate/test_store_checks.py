from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_datasets.validate import Finding, validate_store
from vla_datasets.validate.keep import propose_keep
from vla_policy.cli import main
from vla_policy.embodiment import Embodiment


def fill(path: Path, embodiment: Embodiment, episodes: list[Episode]) -> DemonstrationStore:
    store = DemonstrationStore.create(path, embodiment)
    with store.writer() as writer:
        writer.append(episodes)
    return store


def files(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def with_black_camera(episode: Episode) -> Episode:
    images = {camera: pictures.copy() for camera, pictures in episode.images.items()}
    images["front"][10:20] = 0
    return replace(episode, images=images)


def test_duplicates_and_odd_lengths_need_all_episodes(
    tmp_path: Path, embodiment: Embodiment, clean: list[Episode], demonstrate: Callable[..., Episode]
) -> None:
    twin, long = replace(clean[3], source_id="twin"), demonstrate(100, length=900)
    result = validate_store(fill(tmp_path / "s", embodiment, [*clean, twin, long]))
    found = {(finding.source_id, finding.check, finding.severity) for finding in result.findings}
    assert found == {("twin", "duplicate", "error"), ("source-100", "outlier", "warning")}
    assert result.keep == {"twin": ()}


def test_applied_keep_ranges_leave_nothing_to_report(
    tmp_path: Path, embodiment: Embodiment, clean: list[Episode]
) -> None:
    store = fill(tmp_path / "s", embodiment, [with_black_camera(clean[0]), *clean[1:]])
    before = files(tmp_path)
    result = validate_store(store)
    assert files(tmp_path) == before
    assert result.keep == {"source-0": ((0, 10), (20, 40))}
    with store.writer() as writer:
        writer.set_keep(result.keep)
    assert validate_store(store).findings == ()


def test_a_damaged_file_is_a_finding_and_the_rest_is_checked(
    tmp_path: Path, embodiment: Embodiment, clean: list[Episode]
) -> None:
    store = fill(tmp_path / "s", embodiment, clean[:12])
    with store.writer() as writer:
        writer.append([*clean[12:23], with_black_camera(clean[23])])
    (tmp_path / "s/segments/000000/data/state/c/0/0").write_bytes(b"torn")
    result = validate_store(DemonstrationStore.open(tmp_path / "s"))
    assert [finding.check for finding in result.findings] == ["unreadable"] * 12 + ["blank_camera"]


def test_an_empty_store_is_an_error(tmp_path: Path, embodiment: Embodiment) -> None:
    with pytest.raises(ValueError, match="is empty"):
        validate_store(DemonstrationStore.create(tmp_path / "s", embodiment))


def test_keep_ranges_drop_cut_and_leave_no_crumbs() -> None:
    def finding(start: int, end: int, repair: str) -> Finding:
        return Finding("c", "e", (start, end), "state", "", "", "", "error", repair)  # pyright: ignore

    findings = [finding(10, 20, "drop"), finding(22, 30, "drop"), finding(39, 41, "cut"), finding(60, 70, "none")]
    assert propose_keep(100, ((0, 90),), findings, rate_hz=10.0) == ((0, 10), (30, 40), (40, 90))
    assert propose_keep(100, ((0, 100),), [], rate_hz=10.0) == ((0, 100),)
    assert propose_keep(100, ((0, 50), (50, 100)), [], rate_hz=10.0) == ((0, 50), (50, 100))
    assert propose_keep(9, ((0, 9),), [finding(0, 9, "drop")], rate_hz=10.0) == ()


def test_the_command_tells_and_writes_what_it_found(
    tmp_path: Path, embodiment: Embodiment, clean: list[Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "clean", embodiment, clean)
    assert main(["data", "validate", str(tmp_path / "clean")]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    fill(tmp_path / "bad", embodiment, [with_black_camera(clean[0]), *clean[1:]])
    keep, findings = tmp_path / "keep.json", tmp_path / "findings.json"
    arguments = ["--keep", str(keep), "--findings", str(findings)]
    assert main(["data", "validate", str(tmp_path / "bad"), *arguments]) == 1
    assert "blank_camera" in capsys.readouterr().out
    assert json.loads(keep.read_text()) == {"source-0": [[0, 10], [20, 40]]}
    (finding,) = json.loads(findings.read_text())
    assert (finding["check"], finding["frames"], finding["source_id"]) == ("blank_camera", [10, 20], "source-0")


def test_a_store_of_tiny_episodes_can_be_checked(
    tmp_path: Path, embodiment: Embodiment, demonstrate: Callable[..., Episode]
) -> None:
    store = fill(tmp_path / "s", embodiment, [demonstrate(number, length=1 + number) for number in range(4)])
    assert all(np.isfinite(finding.frames).all() for finding in validate_store(store).findings)
