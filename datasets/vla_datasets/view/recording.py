"""A recording of demonstrations for the rerun viewer: cameras, curves and texts on one timeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from vla_datasets.schema import ACTION_KEY, STATE_KEY, EpisodeRecord
from vla_datasets.store import DemonstrationStore

_JPEG_QUALITY = 90


def write_recording(
    path: Path,
    store: DemonstrationStore,
    records: Sequence[EpisodeRecord],
    *,
    on_episode: Callable[[], None] = lambda: None,
) -> None:
    """Writes the episodes one after the other; `frame` and `time` (s) run through, `episode` is the store's index.

    The cameras are JPEGs of quality 90 at ``camera/<name>``, the curves ``state/<name>`` and ``action/<name>`` in
    their units, the instruction or the subtask's text ``instruction``.

    Args:
        path: the .rrd file; its directory is made.
        store: the store.
        records: the episodes to write, at least one.
        on_episode: called after every episode.

    Raises:
        ValueError: there are no episodes, or rerun is not installed.
        StoreError: a file is missing or torn.

    Source: https://rerun.io/docs/reference/types
    """
    if not records:
        raise ValueError("a recording needs at least one episode; got none")
    try:
        import rerun as rr
        import rerun.blueprint as rrb
    except ModuleNotFoundError as error:
        raise ValueError(f"a rerun recording needs {error.name}: pip install 'vla_policy[view]'") from error
    body = store.embodiment
    path.parent.mkdir(parents=True, exist_ok=True)
    views = [rrb.Spatial2DView(origin=f"camera/{camera}", name=camera) for camera in body.cameras]
    curves = [rrb.TimeSeriesView(origin=key, name=key) for key in (STATE_KEY, ACTION_KEY)]
    text = rrb.TextDocumentView(origin="instruction", name="instruction")
    layout = rrb.Vertical(rrb.Horizontal(*views), *curves, text, row_shares=[4, 2, 2, 1])
    with rr.RecordingStream("vla_policy", recording_id=store.fingerprint) as recording:
        recording.save(path, default_blueprint=rrb.Blueprint(layout))
        first = 0
        for record in records:
            episode = store.read_episode(record.index)
            frames = np.arange(first, first + len(episode))
            times = [
                rr.TimeColumn("frame", sequence=frames),
                rr.TimeColumn("time", duration=frames * body.dt_s),
                rr.TimeColumn("episode", sequence=np.full(len(episode), record.index)),
            ]
            for key, channel, values in (
                (STATE_KEY, body.state, episode.state),
                (ACTION_KEY, body.action, episode.actions),
            ):
                for name, column in zip(channel.names, values.T, strict=True):
                    recording.send_columns(f"{key}/{name}", times, rr.Scalars.columns(scalars=column))
            for camera, pictures in episode.images.items():
                encoded = rr.EncodedImage.columns(
                    blob=[_jpeg(picture) for picture in pictures], media_type=["image/jpeg"] * len(episode)
                )
                recording.send_columns(f"camera/{camera}", times, encoded)
            texts = [f"{record.instruction_at(frame)}\n\n{record.source_id}" for frame in range(len(episode))]
            recording.send_columns("instruction", times, rr.TextDocument.columns(text=texts))
            first += len(episode)
            on_episode()


def _jpeg(picture: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
