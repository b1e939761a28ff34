"""Recorded moments and the policy of their robot, as commands are given them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vla_datasets.schema import Episode
    from vla_datasets.store import DemonstrationStore
    from vla_policy.vla.policy import Policy


def open_recorded(data: Path, checkpoint: Path, missing: str) -> tuple[DemonstrationStore, Policy, frozenset[str]]:
    """Returns the store, the policy and the inputs that it is not to get.

    Args:
        data: demonstration store.
        checkpoint: directory of the policy.
        missing: names of inputs, separated by commas.

    Raises:
        ValueError: there is no such store or checkpoint, they are of two robots, or an input is unknown.
    """
    from vla_datasets.store import DemonstrationStore
    from vla_policy.vla.policy import Policy, require_inputs

    absent = frozenset(filter(None, (name.strip() for name in missing.split(","))))
    store = DemonstrationStore.open(data)
    policy = Policy.load(checkpoint)
    policy.require_fits(store.embodiment, f"demonstrations {data}")
    require_inputs(absent, policy.embodiment)
    return store, policy, absent


def read_recorded(store: DemonstrationStore, episode: int, frame: int = 0) -> Episode:
    """Returns an episode that has the frame.

    Raises:
        ValueError: there is no such episode or frame.
    """
    if not 0 <= episode < len(store.episodes):
        count = len(store.episodes)
        raise ValueError(f"{store.path} has {count} episodes, counted from 0; there is no episode {episode}")
    length = store.episodes[episode].length
    if not 0 <= frame < length:
        raise ValueError(f"episode {episode} has the frames 0 .. {length - 1}; there is no frame {frame}")
    return store.read_episode(episode)
