from __future__ import annotations

import numpy as np

from sim_envs.demonstrator import Demonstrator, NoiseConfig
from sim_envs.seeds import TUNING_SEEDS
from sim_envs.tabletop.env import CAMERAS, TabletopEnv
from sim_envs.tabletop.landmarks import LANDMARKS, STREAMS, sample_landmarks
from vla_datasets.schema import landmark_stream


def test_landmarks_are_where_both_pictures_show_the_things() -> None:
    env = TabletopEnv(image_size=96)
    index = LANDMARKS.index("red cube")
    seen = dict.fromkeys(CAMERAS, 0)
    for seed in TUNING_SEEDS[:6]:
        env.reset(seed=seed, options={"task": "pick_red_cube"})
        images, samples = env.observe()["images"], sample_landmarks(env)
        for camera in CAMERAS:
            red, green, blue = np.moveaxis(images[camera].astype(int), -1, 0)
            rows, columns = np.nonzero(red > 2 * np.maximum(green, blue) + 20)
            if len(rows) < 12 or rows.max() == 95:
                continue
            x, y = 96 * samples[landmark_stream(camera)].reshape(-1, 2)[index]
            assert abs(columns.mean() + 0.5 - x) < 2.0 and abs(rows.mean() + 0.5 - y) < 2.0, (camera, seed)
            seen[camera] += 1
    assert min(seen.values()) >= 2
    env.close()


def test_a_demonstration_records_them_and_the_gripper_goes_where_the_cube_is() -> None:
    episode = Demonstrator(NoiseConfig(share=0.0), 32, "tabletop")(("pick_red_cube", TUNING_SEEDS[0])).episode
    assert episode is not None
    assert set(STREAMS) <= set(episode.streams)
    places = episode.streams[landmark_stream("front")].reshape(len(episode), len(LANDMARKS), 2)
    away = np.linalg.norm(places[:, LANDMARKS.index("gripper")] - places[:, LANDMARKS.index("red cube")], axis=1)
    assert away[-1] < 0.05 < away[0]
