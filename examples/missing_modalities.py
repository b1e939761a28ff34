"""What remains when inputs are missing: of the policy's actions, of its fused representation, of a retrieval query.

python examples/missing_modalities.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapes
import tyro

from sim_envs.seeds import EVALUATION_SEEDS
from sim_envs.tabletop.env import TabletopEnv
from vla_policy import Policy, fused_similarity, similarity


def compare(
    checkpoint: Path = Path("checkpoints/tabletop"),
    encoder: Path = Path("outputs/shapes"),
    task: str = "pick_red_cube",
    seed: int = EVALUATION_SEEDS[3],
) -> None:
    """Take inputs away one at a time.

    Args:
        checkpoint: directory of the policy.
        encoder: directory of a dual encoder; the one of shapes.py is trained there when there is none.
        task: which the simulator shows.
        seed: layout of the scene.
    """
    policy = Policy.load(checkpoint)
    env = TabletopEnv(image_size=policy.embodiment.cameras["front"][0])
    seen, _ = env.reset(seed=seed, options={"task": task})
    complete = (seen["images"], seen["state"], seen["instruction"])
    chunk, fused = policy.predict(*complete, t0_s=0.0), policy.encode(*complete)
    joints = np.array(policy.embodiment.action.units) == "rad"
    print("without       similarity of the fused   joint targets change by [rad]")
    for name in (*policy.embodiment.cameras, "state", "instruction"):
        images = {camera: None if camera == name else image for camera, image in seen["images"].items()}
        rest = [None if what == name else seen[what] for what in ("state", "instruction")]
        change = np.abs(policy.predict(images, *rest, t0_s=0.0).actions - chunk.actions)[:, joints].mean()
        print(f"  {name:<12} {fused_similarity(policy.encode(images, *rest), fused).item():<25.2f} {change:.3f}")

    picture, texts = shapes.draw("blue square", np.random.default_rng(1)), ["a blue square", "a blue circle"]
    queries = {"both": (picture, texts[0]), "picture alone": (picture, None), "text alone": (None, texts[0])}
    for name, row in zip(queries, similarity(shapes.load(encoder), list(queries.values()), texts), strict=True):
        print(f"  {name:<14}", ", ".join(f"{text}: {value:+.2f}" for text, value in zip(texts, row, strict=True)))


if __name__ == "__main__":
    tyro.cli(compare)
