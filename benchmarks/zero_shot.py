"""Zero-shot classification of Fashion-MNIST by class names: prompts, ensembles of them, classes never trained on.

sudo apt-get install dataset-fashion-mnist
python benchmarks/zero_shot.py

A dual encoder is trained from nothing on captions of the training pictures ("a picture of a sneaker"), and classifies
the test pictures by the names of the classes. Then another one, trained without the pictures and names of two classes,
classifies among all ten: what it makes of those two is zero-shot in the strict sense. References: chance, and a linear
probe on the picture vectors of the first encoder.
"""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from result_files import write_result
from torch.nn import functional as F

from sim_envs.scoring import rate
from vla_policy.encoders import InstructionEncoder
from vla_policy.inference import ZeroShotClassifier
from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, load_dual_encoder, save_dual_encoder
from vla_policy.retrieval.embedder import Embedder
from vla_policy.retrieval.metrics import linear_probe
from vla_policy.training.schedule import WarmupCosineScheduler

CLASSES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
HELD_OUT = ("coat", "sneaker")
CAPTIONS = ("a {}", "a picture of a {}", "a grey photo of a {}", "this is a {}", "an image of one {}")
UNHEARD = ("a small {}", "a product photo of the {}", "the {} that we sell", "someone's {}")  # not used in training
_SINGLE = {"the bare name": ("{}",), "one caption": CAPTIONS[1:2], "one unheard caption": UNHEARD[1:2]}
_PROBED = 10_000  # training pictures of the linear probe
PROMPTS = {**_SINGLE, "ensemble of captions": CAPTIONS, "ensemble of unheard captions": UNHEARD}


def measure(
    data: Path = Path("/usr/share/datasets/fashion-mnist"),
    out: Path = Path("outputs/fashion"),
    steps: int = 1500,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    test_pictures: int = 10_000,
    name: str = "zero_shot",
) -> None:
    """Measure and write results/<name>.json.

    Args:
        data: directory of the Debian package dataset-fashion-mnist.
        out: directory for the two encoders.
        steps: of training, for each.
        batch_size: pictures per step.
        learning_rate: the highest, after warm-up.
        test_pictures: the first so many of the test set.
        name: of the result file.
    """
    images, labels = read_pictures(data, "train")
    test_images, test_labels = read_pictures(data, "t10k")
    test_images, test_labels = test_images[:test_pictures], test_labels[:test_pictures]
    known = np.array([name not in HELD_OUT for name in CLASSES])
    start_s = time.monotonic()
    everything = _train(out / "all", images, labels, np.arange(len(CLASSES)), steps, batch_size, learning_rate)
    partly = _train(out / "without_held_out", images, labels, np.flatnonzero(known), steps, batch_size, learning_rate)
    print(f"trained in {time.monotonic() - start_s:.0f} s", flush=True)

    pictures = _color(test_images)
    figures: dict[str, Any] = {"chance": 1 / len(CLASSES), "steps": steps, "batch_size": batch_size}
    figures["all_classes_trained"] = {
        title: rate(_predict(everything, prompts, pictures) == test_labels) for title, prompts in PROMPTS.items()
    }
    seen, judged = everything.embed_images(_color(images[:_PROBED])), everything.embed_images(pictures)
    accuracy = linear_probe(seen, labels[:_PROBED], judged, test_labels)
    figures["linear_probe"] = {"rate": round(accuracy, 4), "n": len(test_labels), "trained_on": _PROBED}
    found = _predict(partly, CAPTIONS, pictures)
    unseen = ~known[test_labels]
    figures["held_out"] = {
        "classes": list(HELD_OUT),
        "pictures_of_trained_classes": rate(found[~unseen] == test_labels[~unseen]),
        "pictures_of_held_out_classes": rate(found[unseen] == test_labels[unseen]),
    }
    print(figures)
    write_result(name, figures)


def read_pictures(directory: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, 28, 28) uint8 pictures and (n,) int64 labels of ``train`` or ``t10k``.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    arrays = []
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        path = directory / f"{split}-{kind}-ubyte.gz"
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: sudo apt-get install dataset-fashion-mnist, or --data")
        arrays.append(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header))
    return arrays[0].reshape(-1, 28, 28), arrays[1].astype(np.int64)


def _color(images: np.ndarray) -> np.ndarray:
    return np.repeat(images[..., None], 3, axis=-1)


def _train(
    out: Path, images: np.ndarray, labels: np.ndarray, classes: np.ndarray, steps: int, batch_size: int, peak: float
) -> Embedder:
    """InfoNCE from pictures to the captions of the classes, one wording a step, on pictures of these classes alone."""
    torch.manual_seed(0)
    rng, words = np.random.default_rng(0), InstructionEncoder()
    rows = np.flatnonzero(np.isin(labels, classes))
    position = np.zeros(len(CLASSES), np.int64)
    position[classes] = np.arange(len(classes))
    model = DualEncoder(DualEncoderConfig(width=128, token_width=64))
    optimizer = torch.optim.AdamW(model.parameters(), peak, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = WarmupCosineScheduler(peak, steps // 10, final_fraction=0.0)
    for step in range(steps):
        chosen = rng.choice(rows, batch_size)
        said = words.embed([CAPTIONS[step % len(CAPTIONS)].format(CLASSES[label]) for label in classes])
        texts = model.encode_texts(said.tokens, said.mask)
        pictures = model.encode_images(torch.from_numpy(_color(images[chosen])))
        loss = F.cross_entropy(model.log_scale.exp() * pictures @ texts.T, torch.from_numpy(position[labels[chosen]]))
        optimizer.param_groups[0]["lr"] = schedule.learning_rate(step, steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"{out.name} step {step + 1}: loss {loss.item():.3f}", flush=True)
    save_dual_encoder(out, model)
    return load_dual_encoder(out)


def _predict(embedder: Embedder, prompts: tuple[str, ...], images: np.ndarray) -> np.ndarray:
    """Returns the class numbers that pictures get."""
    return ZeroShotClassifier(embedder, CLASSES, prompts).scores(list(images)).argmax(axis=1)


if __name__ == "__main__":
    tyro.cli(measure)
