"""`vla data delete|keep|merge|split|compact|verify` on a real store."""

from __future__ import annotations

import dataclasses
import json

from vla_datasets.store import DemonstrationStore
from vla_policy.cli import main


def test_the_commands_of_a_store(tmp_path, embodiment, make_episode, capsys):
    path = str(tmp_path / "store")
    store = DemonstrationStore.create(path, embodiment)
    with store.writer() as writer:
        writer.append([make_episode(number, 10) for number in range(6)])

    assert main(["data", "delete", path, "source-0", "source-1"]) == 0
    assert "2 episodes deleted, 4 left" in capsys.readouterr().out
    assert main(["data", "delete", path]) == 2
    assert "name the episodes" in capsys.readouterr().err
    assert main(["data", "delete", path, "source-0"]) == 2
    assert "has no episode 'source-0'" in capsys.readouterr().err

    ranges = tmp_path / "keep.json"
    ranges.write_text(json.dumps({"source-2": [[0, 3], [5, 10]]}))
    assert main(["data", "keep", path, str(ranges)]) == 0
    assert "1 episodes changed; 38 of 40 frames are kept" in capsys.readouterr().out
    ranges.write_text("[1]")
    assert main(["data", "keep", path, str(ranges)]) == 2
    assert "must be JSON" in capsys.readouterr().err

    assert main(["data", "split", path, str(tmp_path / "parts")]) == 0
    parts = sorted(str(part) for part in (tmp_path / "parts").iterdir())
    assert [part.rpartition("/")[2] for part in parts] == ["task_0.zarr", "task_1.zarr", "task_2.zarr"]
    merged = str(tmp_path / "merged")
    assert main(["data", "merge", merged, *parts]) == 0
    assert "4 episodes" in capsys.readouterr().out
    assert main(["data", "compact", merged]) == 0
    assert "MB in 1 segments now" in capsys.readouterr().out
    assert main(["data", "verify", merged]) == 0
    assert "4 episodes" in capsys.readouterr().out
    fields = [(record.source_id, record.keep) for record in DemonstrationStore.open(merged).episodes]
    assert sorted(fields)[0] == ("source-2", ((0, 3), (5, 10)))

    next((tmp_path / "merged").rglob("state/c/0/0")).write_bytes(b"")
    assert main(["data", "verify", merged]) == 2
    assert "1 bad files" in capsys.readouterr().err


def test_a_deleted_episode_is_merged_again_only_on_request(tmp_path, embodiment, make_episode, capsys):
    path, out = str(tmp_path / "store"), str(tmp_path / "out")
    with DemonstrationStore.create(path, embodiment).writer() as writer:
        writer.append([make_episode(number) for number in range(3)])
    assert main(["data", "merge", out, path]) == main(["data", "delete", out, "source-1"]) == 0
    assert main(["data", "merge", out, path]) == 0
    assert "2 episodes" in capsys.readouterr().out.splitlines()[-1]
    assert main(["data", "merge", out, path, "--restore"]) == 0
    assert "3 episodes" in capsys.readouterr().out


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path, embodiment, make_episode, capsys):
    path = str(tmp_path / "store")
    odd = dataclasses.replace(make_episode(0, 10), source_id="a[/x]", task="t [s] [/y]")
    with DemonstrationStore.create(path, embodiment).writer() as writer:
        writer.append([odd, dataclasses.replace(odd, source_id="b [s]")])
    assert main(["data", "info", path]) == 0
    assert "t [s] [/y]" in capsys.readouterr().out
    assert main(["data", "validate", path]) == 1
    assert "b [s]" in capsys.readouterr().out
