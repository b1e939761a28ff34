"""What a policy would do at one moment of a demonstration, and all along it without steering it.

python examples/action_prediction.py
"""

from __future__ import annotations

from pathlib import Path

import tyro

from sim_envs.demonstrator import Demonstrator, NoiseConfig
from sim_envs.seeds import EVALUATION_SEEDS
from vla_policy import Policy, inputs_at, open_loop, write_open_loop_plot


def predict(
    checkpoint: Path = Path("checkpoints/tabletop"),
    task: str = "put_blue_cube_in_white_tray",
    seed: int = EVALUATION_SEEDS[3],
    out: Path = Path("outputs/predict.svg"),
) -> None:
    """Compare predicted with demonstrated actions; `vla predict` does it for an episode of a store.

    Args:
        checkpoint: directory of the policy.
        task: what the scripted expert demonstrates.
        seed: layout of the demonstration.
        out: the plot.
    """
    policy = Policy.load(checkpoint)
    attempt = Demonstrator(NoiseConfig(share=0.0), image_size=policy.embodiment.cameras["front"][0])((task, seed))
    if attempt.episode is None:
        raise RuntimeError(f"the expert failed ({attempt.failure}): choose another --seed")
    episode, action = attempt.episode, policy.embodiment.action

    chunk = policy.predict(*inputs_at(episode, 0), t0_s=0.0)
    print(f"{episode.instruction}, {len(episode)} frames; the first of {len(chunk.actions)} predicted actions:")
    for name, unit, predicted, done in zip(
        action.names, action.units, chunk.actions[0], episode.actions[0], strict=True
    ):
        print(f"  {name:<20} {predicted:+.3f} {unit}, demonstrated {done:+.3f}")

    result = open_loop(policy, episode)
    print("mean error along the episode:")
    for name, unit in zip(action.names, action.units, strict=True):
        print(f"  {name:<20} {result.mean_error[name]:.4f} {unit}")
    write_open_loop_plot(out, result, episode.instruction)
    print(f"{out} written")


if __name__ == "__main__":
    tyro.cli(predict)
