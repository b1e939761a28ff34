"""Record the policy at work as an animated picture.

python examples/record_animation.py --checkpoint checkpoints/tabletop --out docs/media/demo.gif
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tyro

from sim_envs.evaluation import image_size
from sim_envs.rollout import run_episode
from sim_envs.seeds import TUNING_SEEDS
from sim_envs.tabletop.env import TabletopEnv
from vla_policy.vla.policy import Policy

_EVERY = 2  # pictures of every second control step
_FRAME_MS = 200  # of 0.1 s each: the animation runs at the speed of the robot
_PAUSE_MS = 800


def record(
    checkpoint: Path = Path("checkpoints/tabletop"),
    out: Path = Path("docs/media/demo.gif"),
    tasks: tuple[str, ...] = (
        "put_blue_cube_in_white_tray",
        "push_orange_brick_left",
        "touch_purple_puck",
    ),
    seed: int = TUNING_SEEDS[7],
) -> None:
    """Run one episode per task and write them one after the other, captioned with the instruction.

    Args:
        checkpoint: policy to run.
        out: animation to write; the suffix decides the format (.gif, .webp, .png).
        tasks: names of tasks.
        seed: layout seed of every episode.
    """
    policy = Policy.load(checkpoint)
    env = TabletopEnv(image_size=image_size(policy), render_mode="rgb_array")
    policy.require_fits(env.embodiment, "environment vla_policy/Tabletop-v0")
    animation = cv2.Animation()
    frames, durations = [], []
    for task in tasks:
        episode = run_episode(env, policy, task=task, seed=seed, record=True)
        print(f"{episode.instruction}: {'success' if episode.success else episode.failure}")
        if episode.frames is None:
            raise RuntimeError("the episode was not recorded")
        shown = [_captioned(frame, episode.instruction) for frame in episode.frames[::_EVERY]]
        frames += shown
        durations += [_FRAME_MS] * (len(shown) - 1) + [_PAUSE_MS]
    animation.frames = frames
    animation.durations = durations
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwriteanimation(str(out), animation):
        raise OSError(f"OpenCV could not write {out}; use .gif, .webp or .png")
    print(f"{out}: {len(frames)} frames, {out.stat().st_size / 1e6:.1f} MB")


def _captioned(frame: np.ndarray, text: str) -> np.ndarray:
    picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    cv2.putText(picture, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


if __name__ == "__main__":
    tyro.cli(record)
