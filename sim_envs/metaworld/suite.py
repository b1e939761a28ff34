"""Meta-World as a benchmark to collect from and to evaluate on."""

from __future__ import annotations

from functools import partial

import numpy as np

from sim_envs.disturbance import WhiteNoise
from sim_envs.metaworld.env import MetaWorldEnv
from sim_envs.metaworld.expert import Expert
from sim_envs.metaworld.landmarks import STREAMS, sample_landmarks
from sim_envs.metaworld.tasks import ALL_TASKS, GROUPS, task_by_name
from sim_envs.suite import Suite

_IS_DISTURBED = np.array([True, True, True, False])  # never the gripper: it would drop what it holds

METAWORLD = Suite(
    name="metaworld",
    environment_id="vla_policy/MetaWorld-v0",
    make_env=MetaWorldEnv,
    make_expert=Expert,
    task_by_name=task_by_name,
    task_sets={
        "training": ALL_TASKS,
        "all": ALL_TASKS,
        **{group: tuple(task for task in ALL_TASKS if task.skill == group) for group in GROUPS},
    },
    make_disturbance=partial(WhiteNoise, _IS_DISTURBED),
    noise_unit="1",
    noise_std=0.3,
    held_out_instructions={task.name: task.held_out_instructions for task in ALL_TASKS},
    streams=STREAMS,
    sample_streams=sample_landmarks,
)
