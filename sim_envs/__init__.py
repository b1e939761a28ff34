"""Simulated environments behind gymnasium; importing this package registers them."""

from __future__ import annotations

import os

import gymnasium

os.environ.setdefault("MUJOCO_GL", "egl")  # read once, when mujoco is imported
os.environ.setdefault("LP_NUM_THREADS", "1")  # the software rasteriser would take every core from its neighbours

gymnasium.register(id="vla_policy/Tabletop-v0", entry_point="sim_envs.tabletop.env:TabletopEnv")
gymnasium.register(id="vla_policy/MetaWorld-v0", entry_point="sim_envs.metaworld.env:MetaWorldEnv")
