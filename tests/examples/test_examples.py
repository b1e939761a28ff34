"""Every example runs, and shows what it says that it shows."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoder") / "shapes"
    runpy.run_path(str(EXAMPLES / "shapes.py"))["train"](directory)
    return directory


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns what an example's function prints."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(example: str, function: str, **arguments: object) -> str:
        runpy.run_path(str(EXAMPLES / f"{example}.py"))[function](**arguments)
        return capsys.readouterr().out

    return run


def test_similarity(run: Callable[..., str], encoder: Path) -> None:
    best = re.findall(r"the picture of a (.+): 'there is a (.+)' \(", run("similarity", "show", encoder=encoder))
    assert len(best) == 4 and all(picture == text for picture, text in best)


def test_zero_shot(run: Callable[..., str], encoder: Path) -> None:
    said = run("zero_shot", "classify", encoder=encoder, per_class=5)
    name, ensemble = map(float, re.findall(r"(\d\.\d\d), never", said))
    assert min(name, ensemble) > 0.8


def test_retrieval(run: Callable[..., str], encoder: Path) -> None:
    said = run("retrieval", "retrieve", encoder=encoder)
    assert min(map(float, re.findall(r"recall@1 (\d\.\d\d)", said))) > 0.8
    assert "yellow circle" in said.splitlines()[-1].partition(": ")[2]


def test_action_prediction(run: Callable[..., str], tmp_path: Path) -> None:
    said = run("action_prediction", "predict", out=tmp_path / "predict.svg")
    errors = [float(error) for error in re.findall(r"_joint\s+(\d\.\d+) rad$", said, re.MULTILINE)]
    assert len(errors) == 6 and max(errors) < 0.1
    ElementTree.parse(tmp_path / "predict.svg")


def test_missing_modalities(run: Callable[..., str], encoder: Path) -> None:
    said = run("missing_modalities", "compare", encoder=encoder)
    rows = re.findall(r"^  (front|wrist|state|instruction) +(\S+) +(\S+)$", said, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["front", "wrist", "state", "instruction"]
    assert all(0 < float(alike) < 1 and float(change) > 0 for _, alike, change in rows)
    assert re.findall(r"^  (both|picture alone|text alone) ", said, re.MULTILINE) == [
        "both",
        "picture alone",
        "text alone",
    ]
