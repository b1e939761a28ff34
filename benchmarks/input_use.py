"""Does a policy use its inputs? Its error on held-out demonstrations when an input is another sample's.

`vla train` says the same at every validation (``use_<input>``); this asks a checkpoint.

python benchmarks/input_use.py --checkpoint runs/metaworld/checkpoint --data data/metaworld.zarr
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
import tyro
from result_files import write_result

from vla_datasets.loader import DemonstrationLoader
from vla_datasets.samples import Samples
from vla_datasets.store import DemonstrationStore
from vla_policy.encoders import InstructionEncoder
from vla_policy.training.checkpoint import load_checkpoint
from vla_policy.training.input_use import swapped
from vla_policy.training.vla_task import observe

_BATCH = 256


def measure(checkpoint: Path, data: Path, batches: int = 6, validation_fraction: float = 0.05) -> None:
    """Measure and write results/input_use.json.

    Args:
        checkpoint: directory of the checkpoint.
        data: the demonstrations that it was trained on.
        batches: batches of 256 held-out samples.
        validation_fraction: as in the training, so that what is held out is the same.
    """
    loaded = load_checkpoint(checkpoint)
    model = loaded.model.float().eval()
    store = DemonstrationStore.open(data)
    samples = Samples(
        store, split="validation", chunk_size=loaded.config.chunk_size, validation_fraction=validation_fraction
    )
    loader = DemonstrationLoader(samples, batch_size=_BATCH, seed=0, budget_bytes=int(4e9))
    words = InstructionEncoder().embed(loader.texts)
    generator = torch.Generator().manual_seed(0)
    errors: dict[str, list[float]] = {}
    for batch in islice(loader.batches(), batches):
        observation = observe(batch, words)
        order = torch.randperm(len(batch.actions), generator=generator)
        noise = torch.randn(len(order), *model.head.noise_shape, generator=generator)
        for name, seen in ({"as it is": observation} | swapped(observation, order)).items():
            with torch.inference_mode():
                wrong = (model.sample(seen, noise) - batch.actions) / model.normalizer.action_std
            errors.setdefault(name, []).append(float(wrong.abs()[batch.action_mask].mean()))
    figures = {name: round(sum(values) / len(values), 4) for name, values in errors.items()}
    write_result(
        "input_use", {"checkpoint": loaded.identifier, "samples": batches * _BATCH, "error_in_deviations": figures}
    )
    print(figures)


if __name__ == "__main__":
    tyro.cli(measure)
