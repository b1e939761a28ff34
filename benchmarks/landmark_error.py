"""How far from a thing does a policy's encoder expect it to be? Landmarks of held-out demonstrations, in pixels.

python benchmarks/landmark_error.py --checkpoint checkpoints/metaworld --data data/metaworld.zarr
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
import tyro
from result_files import write_result

from vla_datasets.loader import DemonstrationLoader
from vla_datasets.samples import Samples
from vla_datasets.schema import describe_streams, landmark_stream
from vla_datasets.store import DemonstrationStore
from vla_policy.encoders import InstructionEncoder
from vla_policy.training.checkpoint import load_checkpoint
from vla_policy.training.vla_task import observe

_BATCH = 256


def measure(checkpoint: Path, data: Path, batches: int = 6, validation_fraction: float = 0.05) -> None:
    """Measure and write results/landmark_error.json.

    Args:
        checkpoint: directory of a checkpoint that was trained with landmarks.
        data: demonstrations with landmarks, those that it was trained on.
        batches: batches of 256 held-out samples.
        validation_fraction: as in the training, so that what is held out is the same.
    """
    loaded = load_checkpoint(checkpoint)
    model = loaded.model.float().eval()
    if not loaded.meta["train"]["landmark_loss_weight"]:
        raise ValueError(f"{checkpoint} was trained without --landmark-loss-weight: its heatmaps are of no landmarks")
    store = DemonstrationStore.open(data)
    if not {landmark_stream(camera) for camera in store.embodiment.cameras} & set(store.streams):
        raise ValueError(f"{data} has no landmarks; its streams are: {describe_streams(store.streams)}")
    samples = Samples(
        store, split="validation", chunk_size=loaded.config.chunk_size, validation_fraction=validation_fraction
    )
    loader = DemonstrationLoader(samples, batch_size=_BATCH, seed=0, budget_bytes=int(4e9))
    words = InstructionEncoder().embed(loader.texts)
    errors: dict[str, list[torch.Tensor]] = {}
    for batch in islice(loader.batches(), batches):
        with torch.inference_mode():
            located = model.locate(observe(batch, words))
        for camera, (height, width) in store.embodiment.cameras.items():
            name = landmark_stream(camera)
            if name not in store.streams:
                continue
            places = batch.streams[name][:, -1, -1].unflatten(-1, (-1, 2))
            found = located[camera][:, : places.shape[1]]
            distances = ((found - places) * torch.tensor([width, height])).norm(dim=-1)
            is_seen = ((places >= 0) & (places <= 1)).all(dim=-1)
            for index, axis in enumerate(store.streams[name].channel.names[::2]):
                key = f"{camera} {axis.removesuffix('_x')}"
                errors.setdefault(key, []).append(distances[is_seen[:, index], index])
    figures = {}
    for key, parts in errors.items():
        error = torch.cat(parts)
        if not len(error):
            continue  # nowhere in a picture
        ninth = float(error.quantile(0.9))
        figures[key] = {"median_px": round(float(error.median()), 2), "p90_px": round(ninth, 2), "n": len(error)}
    write_result("landmark_error", {"checkpoint": loaded.identifier, "landmarks": figures})
    print(figures)


if __name__ == "__main__":
    tyro.cli(measure)
