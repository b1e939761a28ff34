"""A UR5e with a two-finger gripper as a MuJoCo spec, built from primitive shapes on published numbers.

Source: Universal Robots, "DH parameters for calculations of kinematics and dynamics" (UR5e: a, d, alpha, link masses,
centres of mass) and the UR5e technical specification (joint ranges, 180 deg/s, joint torques); the elbow has the
+-180 deg of ur_description, half of its range, as robots under ROS 2 do. The gripper is a parallel one with the 85 mm
stroke and the 163 mm tool length of a common adaptive two-finger gripper.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

JOINTS = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
JOINT_LIMITS_RAD = np.array([2 * math.pi, 2 * math.pi, math.pi, 2 * math.pi, 2 * math.pi, 2 * math.pi])  # +-
JOINT_VELOCITY_LIMIT_RAD_S = math.pi
FINGER_STROKE_M = 0.0425  # each of two fingers; 85 mm together
FINGERS = ("finger_left", "finger_right")

# Denavit-Hartenberg parameters a [m], d [m], alpha [rad]; link mass [kg] and centre of mass [m] in the DH frame.
_DH = (
    (0.0, 0.1625, math.pi / 2),
    (-0.425, 0.0, 0.0),
    (-0.3922, 0.0, 0.0),
    (0.0, 0.1333, math.pi / 2),
    (0.0, 0.0997, -math.pi / 2),
    (0.0, 0.0996, 0.0),
)
_MASS_KG = (3.761, 8.058, 2.846, 1.37, 1.3, 0.365)
# Capsules: from, to [m] in the frame before the joint's DH translation, radius [m].
_CAPSULES = (
    ((0, 0, 0.06), (0, 0, 0.1625), 0.058),
    ((0, 0, 0.138), (-0.425, 0, 0.138), 0.05),
    ((0, 0, 0.007), (-0.3922, 0, 0.007), 0.042),
    ((0, 0, 0.03), (0, 0, 0.1333), 0.038),
    ((0, 0, 0.0), (0, 0, 0.0997), 0.038),
    ((0, 0, 0.05), (0, 0, 0.0896), 0.036),
)
_TORQUE_NM = (150.0, 150.0, 150.0, 28.0, 28.0, 28.0)
_STIFFNESS = (12000.0, 12000.0, 8000.0, 1500.0, 1500.0, 800.0)  # N m / rad
_DAMPING = (400.0, 400.0, 250.0, 40.0, 40.0, 20.0)  # N m s / rad
_ARMATURE = (0.5, 0.5, 0.3, 0.1, 0.1, 0.1)  # kg m^2, reflected rotor inertia
TOOL_LENGTH_M = 0.1628

ROBOT_CONTACT = {"contype": 1, "conaffinity": 2}  # touches the world, never itself
_GRAY = (0.72, 0.74, 0.77, 1.0)
_BLUE_GRAY = (0.35, 0.42, 0.50, 1.0)
_BLACK = (0.12, 0.12, 0.13, 1.0)


def add_ur5e(spec: mujoco.MjSpec) -> None:
    """Adds the arm, its gripper, the site ``tcp``, the camera ``wrist`` and the position actuators to `spec`.

    The base stands at the world's origin and the arm reaches along +x at zero pan. Actuators are, in order, the six
    joints [rad] and the two fingers [m].
    """
    # Half a turn: in the DH frame the arm reaches along -x.
    parent = spec.worldbody.add_body(name="base", quat=[0, 0, 0, 1])
    parent.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.075, 0.03, 0], pos=[0, 0, 0.03], rgba=_BLUE_GRAY, contype=0,
        conaffinity=0,
    )  # fmt: skip
    pos, quat = np.zeros(3), np.array([1.0, 0, 0, 0])
    for i, joint in enumerate(JOINTS):
        link = parent.add_body(name=joint.replace("_joint", "_link"), pos=pos, quat=quat, gravcomp=1.0)
        limit = float(JOINT_LIMITS_RAD[i])
        link.add_joint(name=joint, axis=[0, 0, 1], range=[-limit, limit], limited=True, armature=_ARMATURE[i])
        start, end, radius = _CAPSULES[i]
        link.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end], size=[radius, 0, 0], mass=_MASS_KG[i],
            rgba=_BLUE_GRAY if i in (0, 3, 4) else _GRAY,
            **(ROBOT_CONTACT if i > 0 else {"contype": 0, "conaffinity": 0}),
        )  # fmt: skip
        a, d, alpha = _DH[i]
        pos, quat = np.array([a, 0, d]), np.array([math.cos(alpha / 2), math.sin(alpha / 2), 0, 0])
        actuator = spec.add_actuator(name=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT, target=joint)
        _position_servo(actuator, _STIFFNESS[i], _DAMPING[i], _TORQUE_NM[i], (-limit, limit))
        parent = link
    _add_gripper(spec, parent, pos)


def _add_gripper(spec: mujoco.MjSpec, wrist: mujoco.MjsBody, flange_pos: np.ndarray) -> None:
    # Hand frame: z out of the flange, fingers close along x.
    hand = wrist.add_body(name="hand", pos=flange_pos, gravcomp=1.0)
    hand.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.042, 0.03, 0.04], pos=[0, 0, 0.045], mass=0.7, rgba=_BLACK,
        **ROBOT_CONTACT,
    )  # fmt: skip
    hand.add_site(name="tcp", pos=[0, 0, TOOL_LENGTH_M], size=[0.005, 0, 0], group=4)
    # Looks from beside the palm at the fingertips: the eye turned by 18 degrees towards the approach axis.
    tilt = math.pi - math.radians(18)
    hand.add_camera(name="wrist", pos=[0, -0.075, 0.03], quat=[math.cos(tilt / 2), math.sin(tilt / 2), 0, 0], fovy=70)
    for name, sign in zip(FINGERS, (1.0, -1.0), strict=True):
        finger = hand.add_body(name=name, pos=[0, 0, 0.085], gravcomp=1.0)
        finger.add_joint(
            name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[sign, 0, 0], range=[0, FINGER_STROKE_M], limited=True,
            armature=0.05,
        )  # fmt: skip
        finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.006, 0.0125, 0.045], pos=[sign * 0.006, 0, 0.045], mass=0.08,
            rgba=_BLACK, friction=[1.5, 0.02, 0.001], condim=4, solref=[0.01, 1], **ROBOT_CONTACT,
        )  # fmt: skip
        actuator = spec.add_actuator(name=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, target=name)
        _position_servo(actuator, 1000.0, 100.0, 15.0, (0.0, FINGER_STROKE_M))


def _position_servo(
    actuator: mujoco.MjsActuator, stiffness: float, damping: float, force: float, ctrlrange: tuple[float, float]
) -> None:
    actuator.gaintype = mujoco.mjtGain.mjGAIN_FIXED
    actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    actuator.gainprm[0] = stiffness
    actuator.biasprm[1], actuator.biasprm[2] = -stiffness, -damping
    actuator.forcerange = [-force, force]
    actuator.ctrlrange = list(ctrlrange)
