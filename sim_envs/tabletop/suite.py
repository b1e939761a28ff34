"""The tabletop as a benchmark to collect from and to evaluate on."""

from __future__ import annotations

from functools import partial

import numpy as np

from sim_envs.disturbance import Pushes
from sim_envs.suite import Suite
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.expert import Expert
from sim_envs.tabletop.landmarks import STREAMS, sample_landmarks
from sim_envs.tabletop.tasks import ALL_TASKS, HELD_OUT_TASKS, TRAINING_TASKS, task_by_name
from sim_envs.tabletop.ur5e import JOINTS

_IS_DISTURBED = np.array([True] * len(JOINTS) + [False])  # never the gripper

TABLETOP = Suite(
    name="tabletop",
    environment_id="vla_policy/Tabletop-v0",
    make_env=TabletopEnv,
    make_expert=Expert,
    task_by_name=task_by_name,
    task_sets={"training": TRAINING_TASKS, "held-out": HELD_OUT_TASKS, "all": ALL_TASKS},
    make_disturbance=partial(Pushes, _IS_DISTURBED),
    noise_unit="rad",
    noise_std=0.025,
    streams=STREAMS,
    sample_streams=sample_landmarks,
)
