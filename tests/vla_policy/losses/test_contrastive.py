from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vla_policy.losses import ContrastiveLoss

PROCESS = Path(__file__).with_name("contrastive_process.py")
spec = importlib.util.spec_from_file_location("contrastive_process", PROCESS)
assert spec is not None and spec.loader is not None
process = importlib.util.module_from_spec(spec)
spec.loader.exec_module(process)

OBJECTIVES = ["infonce", "sigmoid"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equals_open_clip(objective: str) -> None:
    x, y = (part.requires_grad_() for part in process.embeddings(6))
    loss = ContrastiveLoss(objective).double()  # pyright: ignore[reportArgumentType]
    ours = process.value_and_gradients(loss(x, y), x, y, loss)
    theirs = process.value_and_gradients(process.theirs(objective, 0, 1, loss, x, y), x, y, loss)
    # Ours scales to length 1 once more, so gradients agree in the tangent of the sphere alone.
    assert ours["value"] == pytest.approx(theirs["value"], abs=1e-12)
    for i, unit in enumerate((x, y)):
        torch.testing.assert_close(torch.tensor(ours["gradients"][i]), tangent(theirs["gradients"][i], unit))
    torch.testing.assert_close(torch.tensor(ours["gradients"][2:]), torch.tensor(theirs["gradients"][2:]))


def tangent(gradient: list[list[float]], unit: torch.Tensor) -> torch.Tensor:
    flat, at = torch.tensor(gradient), unit.detach().float()
    return flat - (flat * at).sum(dim=1, keepdim=True) * at


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two gloo processes printed."""
    rendezvous = tmp_path_factory.mktemp("gloo") / "rendezvous"
    commands = [[sys.executable, str(PROCESS), str(rank), "2", str(rendezvous)] for rank in range(2)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    outputs = [one.communicate(timeout=200) for one in running]
    assert all(one.returncode == 0 for one in running), outputs
    return [json.loads(out) for out, _ in outputs]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_equal_open_clip_and_the_one_large_batch(objective: str, results: list[dict]) -> None:
    x, y = (part.requires_grad_() for part in process.embeddings(6))
    loss = ContrastiveLoss(objective).double()  # pyright: ignore[reportArgumentType]
    of_objective = [result[objective] for result in results]
    for rank, result in enumerate(of_objective):
        assert result["ours"]["value"] == pytest.approx(result["theirs"]["value"], abs=1e-12)
        for i, part in enumerate((x, y)):
            rows = part[3 * rank : 3 * rank + 3]
            theirs = tangent(result["theirs"]["gradients"][i], rows)
            torch.testing.assert_close(torch.tensor(result["ours"]["gradients"][i]), theirs)
    require_mean_of(of_objective, "ours", process.value_and_gradients(loss(x, y), x, y, loss))
    noisy = ContrastiveLoss(objective, noise_exponent=0.5).double()  # pyright: ignore[reportArgumentType]
    samples = torch.arange(6)
    value = noisy(x, y, labels=samples % 4, present=samples > 0)
    require_mean_of(of_objective, "masked", process.value_and_gradients(value, x, y, noisy))
    value = noisy(x, y, positive=samples[:, None] <= samples, present=samples > 0)
    require_mean_of(of_objective, "related", process.value_and_gradients(value, x, y, noisy))


def test_batches_of_unequal_size_are_refused_in_every_process(results: list[dict]) -> None:
    for result in results:
        assert "every process needs a batch of the same size; got [1, 2]" in result["unequal"]


def require_mean_of(results: list[dict], key: str, whole: dict) -> None:
    """Averaged over processes, as DistributedDataParallel does, value and gradients are those of the whole batch."""
    assert sum(result[key]["value"] for result in results) / 2 == pytest.approx(whole["value"], abs=1e-12)
    parts = [[torch.tensor(g) for g in result[key]["gradients"]] for result in results]
    for i, expected in enumerate(whole["gradients"]):
        combined = torch.cat((parts[0][i], parts[1][i])) / 2 if i < 2 else (parts[0][i] + parts[1][i]) / 2
        torch.testing.assert_close(combined, torch.tensor(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_samples_with_one_label_attract(objective: str) -> None:
    """Another caption of the same picture is a negative to a plain loss and a positive to this one."""
    x, y = torch.eye(5)[[0, 1, 2]], torch.eye(5)[[0, 3, 4]]
    loss = ContrastiveLoss(objective)  # pyright: ignore[reportArgumentType]
    pull = []
    for labels in (torch.tensor([0, 1, 2]), torch.tensor([7, 7, 2])):
        moved = y.clone().requires_grad_()
        loss(x, moved, labels=labels).backward()
        assert moved.grad is not None
        pull.append(-float(moved.grad[1] @ x[0]))
    assert pull[0] < 0 < pull[1]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("exponent", [0.0, 0.7])
def test_absent_samples_are_as_if_they_were_not_there(objective: str, exponent: float) -> None:
    x, y = (part.float() for part in process.embeddings(6))
    loss = ContrastiveLoss(objective, exponent)  # pyright: ignore[reportArgumentType]
    present = torch.tensor([True, False, True, True, False, True])
    holed = torch.where(present[:, None], x, torch.nan).requires_grad_()
    value = loss(holed, y, present=present)
    torch.testing.assert_close(value, loss(x[present], y[present]))
    value.backward()
    assert holed.grad is not None and holed.grad.isfinite().all() and not holed.grad[~present].any()
    nothing = loss(holed, y, present=torch.zeros(6, dtype=torch.bool))
    nothing.backward()
    assert float(nothing.detach()) == 0 and holed.grad.isfinite().all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_who_belongs_together_may_be_said_pair_by_pair(objective: str) -> None:
    x, y = process.embeddings(6)
    loss = ContrastiveLoss(objective, 0.5).double()  # pyright: ignore[reportArgumentType]
    labels = torch.tensor([0, 1, 1, 2, 3, 3])
    together = labels[:, None] == labels
    torch.testing.assert_close(loss(x, y, positive=together), loss(x, y, labels=labels))
    one_way = together.clone()
    one_way[1, 2] = False
    assert loss(x, y, positive=one_way) != loss(x, y, positive=together)
    even = ContrastiveLoss(objective).double()  # pyright: ignore[reportArgumentType]
    turned = even(y, x, positive=one_way.T.contiguous())
    torch.testing.assert_close(even(x, y, positive=one_way), turned)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_noisy_pairs_pull_less(objective: str) -> None:
    x, y = process.embeddings(6)
    y = x.roll(1, 0).where(torch.arange(6)[:, None] < 2, x + 0.1 * y)  # the first two pairs do not belong together
    pull = {}
    for exponent in (0.0, 1.0):
        loss = ContrastiveLoss(objective, exponent).double()  # pyright: ignore[reportArgumentType]
        moved = y.clone().requires_grad_()
        loss(x, moved).backward()
        assert moved.grad is not None
        pull[exponent] = -(moved.grad[:2] * x[:2]).sum()  # towards the wrong partner
    assert pull[0.0] > 0 and pull[1.0] < 0.5 * pull[0.0]


def test_training_learns_the_scale() -> None:
    torch.manual_seed(0)
    layer, loss = nn.Linear(16, 8), ContrastiveLoss()
    x = torch.randn(32, 16)
    optimizer = torch.optim.Adam([*layer.parameters(), *loss.parameters()], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(layer(x), x[:, :8])
        value.backward()
        optimizer.step()
    assert value < 0.1 * math.log(32)
    assert loss.scale != ContrastiveLoss().scale


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_scale_beyond_its_bound_comes_back(objective: str) -> None:
    x, _ = (part.float() for part in process.embeddings(6))
    loss = ContrastiveLoss(objective)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    assert loss.scale.item() == pytest.approx(100)
    optimizer = torch.optim.SGD([loss.log_scale], lr=1e-3)
    (loss(x, -x) + loss(x, -x)).backward()  # the opposite of what is said to match: a smaller scale is better
    assert loss.log_scale.item() == pytest.approx(math.log(100))
    optimizer.step()
    assert loss.scale < 99


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"no contrastive objective 'infonec'.*did you mean 'infonce'"):
        ContrastiveLoss("infonec")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="noise_exponent must be at least 0; got -1"):
        ContrastiveLoss(noise_exponent=-1)
    loss, x = ContrastiveLoss(), torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"'x': \(3, 4\), 'y': \(3, 5\)"):
        loss(x, torch.randn(3, 5))
    with pytest.raises(ValueError, match=r"b at least 1; got .*\(0, 4\)"):
        loss(x[:0], x[:0])
    with pytest.raises(ValueError, match="embeddings of 'y' must be finite"):
        loss(x, x * torch.nan)
    for wrong in (0.0, torch.inf):
        with pytest.raises(
            ValueError, match=rf"of 'y' .* not zero; that of sample 2 has the length {wrong}: pass present="
        ):
            loss(x, torch.cat((x[:2], torch.full((1, 4), wrong))))
    with pytest.raises(ValueError, match=r"labels must be int64 \(3,\); got torch.float32 \(3,\)"):
        loss(x, x, labels=torch.zeros(3))
    with pytest.raises(ValueError, match=r"positive must be bool .*of shape \(3, 3\); got torch.bool \(3, 2\)"):
        loss(x, x, positive=torch.ones(3, 2) > 0)
    with pytest.raises(ValueError, match=r"given instead of labels"):
        loss(x, x, labels=torch.arange(3), positive=torch.eye(3) > 0)
    with pytest.raises(ValueError, match=r"present samples must be bool .*of shape \(3,\); got torch.bool \(2,\)"):
        loss(x, x, present=torch.ones(2) > 0)
