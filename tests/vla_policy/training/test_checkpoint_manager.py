from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.files import CheckpointError


def writer(content: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "weights").write_text(content)

    return write


def kept(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))


def test_keeps_the_newest_and_the_best_behind_links(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, keep=2)
    for step, loss in ((1, 0.5), (2, 0.1), (3, 0.3), (4, None), (5, 0.2), (5, 0.2)):
        manager.save(step, writer(str(step)), None if loss is None else {"loss": loss})
    assert kept(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]
    assert (manager.newest / "weights").read_text() == "5"
    assert (manager.best / "weights").read_text() == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "checkpoint", "checkpoints"]


def test_the_best_is_remembered_when_a_run_goes_on(tmp_path: Path) -> None:
    CheckpointManager(tmp_path, 1, "recall", "highest").save(1, writer("a"), {"recall": 0.9, "loss": 3.0})
    manager = CheckpointManager(tmp_path, 1, "recall", "highest")
    for step in (2, 3):
        manager.save(step, writer("b"), {"recall": 0.8, "loss": 1.0})
    assert kept(tmp_path) == ["step-00000001", "step-00000003"]
    assert manager.verified("best").name == "step-00000001"


def test_a_finished_run_that_is_resumed_keeps_its_figures(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    for step, loss in ((1, 0.5), (2, 0.1)):
        manager.save(step, writer(str(step)), {"loss": loss})
    CheckpointManager(tmp_path).save(2, writer("2"))
    assert manager.best.resolve().name == "step-00000002"


def test_a_run_that_goes_on_from_before_its_newest_checkpoint_keeps_what_it_saves(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, keep=1)
    manager.save(9, writer("lost"))
    manager.save(7, writer("redone"))
    assert (manager.newest / "weights").read_text() == "redone"


def test_what_was_changed_after_saving_is_not_handed_out(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    with pytest.raises(CheckpointError, match="has no newest checkpoint"):
        manager.verified()
    directory = manager.save(1, writer("good"))
    assert manager.verified() == directory
    with pytest.raises(CheckpointError, match="has no best checkpoint"):
        manager.verified("best")
    (directory / "weights").write_text("gold")
    with pytest.raises(CheckpointError, match="is not what was saved"):
        manager.verified()
    (directory / "weights").unlink()
    with pytest.raises(CheckpointError, match="weights is missing"):
        manager.verified()


@pytest.mark.usefixtures("unchecked")
def test_other_words_are_not_taken_for_one_of_two(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="best_is must be one of lowest, highest; got 'min'"):
        CheckpointManager(tmp_path, best_is="min")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="which must be one of newest, best; got 'newst'; did you mean 'newest'"):
        CheckpointManager(tmp_path).verified("newst")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("figures", "message"), [({"losses": 1.0}, "did you mean 'losses'"), ({"loss": float("nan")}, "is NaN")]
)
def test_a_figure_that_cannot_decide_is_refused_before_anything_is_written(
    figures: dict[str, float], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        CheckpointManager(tmp_path).save(1, writer("x"), figures)
    assert not list(tmp_path.iterdir())
