"""Where a joint_trajectory_controller is on a trajectory, for the checker: no code of the gate that it checks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True)
class FollowedTrajectory:
    """A trajectory as a joint_trajectory_controller follows it.

    Args:
        came_ns: when it came, in nanoseconds.
        times_ns: (n,) int64, when its points are to be reached, strictly increasing.
        positions: (n, a) at the points.
        velocities: (n, a) at the points, per second; None: it goes straight from point to point.

    Source: ros2_controllers, joint_trajectory_controller, Trajectory::sample.
    """

    came_ns: int
    times_ns: Int64[np.ndarray, " n"]
    positions: Float64[np.ndarray, "n a"]
    velocities: Float64[np.ndarray, "n a"] | None

    def position(self, t_ns: int) -> Float64[np.ndarray, " a"]:
        """Returns the position at a time in nanoseconds, (a,); the first before its points and the last after them."""
        after = int(np.searchsorted(self.times_ns, t_ns, side="right"))
        if after in (0, len(self.times_ns)):
            return self.positions[min(after, len(self.times_ns) - 1)]
        duration_s = float(self.times_ns[after] - self.times_ns[after - 1]) / 1e9
        share = float(t_ns - self.times_ns[after - 1]) / 1e9 / duration_s
        start, end = self.positions[after - 1 : after + 1]
        straight = start + share * (end - start)
        if self.velocities is None:
            return straight
        # The cubic Hermite curve, as what it adds to the straight line.
        leaving, arriving = self.velocities[after - 1 : after + 1] * duration_s - (end - start)
        return straight + share * (1 - share) * ((1 - share) * leaving - share * arriving)

    def joined(self, position: Float64[np.ndarray, " a"]) -> FollowedTrajectory:
        """Returns the same, gone to straight away from a position where the controller was when it came.

        Args:
            position: (a,); for a trajectory all of whose points were still to come then.
        """
        first_s = float(self.times_ns[0] - self.came_ns) / 1e9
        velocities = self.velocities
        if velocities is not None:  # the speed before is not known here; this one hardly bends the way
            velocities = np.concatenate([(self.positions[:1] - position) / first_s, velocities])
        return FollowedTrajectory(
            self.came_ns,
            np.concatenate([[self.came_ns], self.times_ns]),
            np.concatenate([position[None], self.positions]),
            velocities,
        )
