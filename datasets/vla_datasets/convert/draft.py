"""A mapping file to fill in, from what a data set says about itself."""

from __future__ import annotations

import json
import re

from vla_datasets.convert.foreign import Field, ForeignDataset, Offer

_HEAD = """\
# What {path} does not say about itself. Replace every '?', delete what is not wanted, then:
#   vla data import {path} --mapping THIS_FILE --out STORE
# A dimension's value in the store is scale * stored number + offset (scale: 1 and offset: 0 unless given).
# Units: rad, m, s, rad/s, m/s, N, Nm, "1" (a gripper opening is "1": 0 = closed .. 1 = open).
# An action part may say `ahead: 1`: the action of frame i is the key's value at frame i + 1.
# What does not belong to the state may move to `streams:`, part by part.
"""
_NO_STATE = {"success", "done", "dones", "reward", "rewards", "timestamp"}
_MAX_COLUMNS = 100  # of what may be a vector; depth maps have more


def draft_mapping(dataset: ForeignDataset) -> str:
    """Returns the text of a mapping file for a data set, with a ``?`` for everything that it does not say."""
    offer = dataset.offer
    lines = [_HEAD.format(path=dataset.path)]
    lines.append(f"robot: {json.dumps(offer.robot or '?')}")
    lines.append(f"control_mode: {json.dumps(offer.control_mode or '?')}  # what an action means, e.g. joint_position")
    lines.append(f"rate_hz: {json.dumps(offer.rate_hz or '?')}")
    pictures = {key: field for key, field in offer.fields.items() if field.is_picture}
    if pictures:
        lines.append("\ncameras:")
    for key, field in pictures.items():
        order = ', order: "?"' if field.order_is_unknown else ""
        lines.append(f"  {_name(key)}: {{key: {json.dumps(key)}{order}}}  # {field.dtype} {field.shape}")
    parts: dict[str, dict[str, Field]] = {"state": {}, "action": {}, "streams": {}, "": {}}
    for key, field in offer.fields.items():
        if key not in pictures:
            parts[_place(key, field)][key] = field
    unused = parts.pop("")
    for place, fields in parts.items():
        if fields or place != "streams":
            lines.append(f"\n{place}:")
        for key, field in fields.items():
            lines += _vector(key, field)
    success = next((key for key in offer.fields if _name(key) == "success"), None)
    unused.pop(success or "", None)
    lines += [f"# not mapped: {key}: {field.dtype} {field.shape} a frame" for key, field in unused.items()]
    lines += [f"# unreadable: {key}: {why}" for key, why in offer.unreadable.items()]
    lines += ["", *_text(offer)]
    lines.append(
        'success: {all: "?"}  # true or false' if success is None else f"success: {{key: {json.dumps(success)}}}"
    )
    return "\n".join(lines) + "\n"


def _place(key: str, field: Field) -> str:
    """Returns the section of the mapping file that a key most likely belongs to, "" for none."""
    if _name(key) in _NO_STATE or len(field.shape) > 2 or (field.shape and field.shape[-1] > _MAX_COLUMNS):
        return ""
    if len(field.shape) == 2:
        return "streams"
    return "action" if _name(key).startswith("action") else "state"


def _vector(key: str, field: Field) -> list[str]:
    width = field.shape[-1] if field.shape else 1
    names = field.names or tuple(f"{_name(key)}_{column}" for column in range(width))
    lines = [f"  {_name(key)}:", f"    key: {json.dumps(key)}"]
    if len(field.shape) == 2:
        lines.append(f"    samples_per_frame: {field.shape[0]}")
    lines.append("    dimensions:")
    units = field.units or ("?",) * width
    return lines + [f"      {json.dumps(name)}: {{unit: {json.dumps(unit)}}}" for name, unit in zip(names, units)]


def _text(offer: Offer) -> list[str]:
    keys = list(offer.texts)
    words = next((key for key in keys if "instruction" in key or key == "lang"), "task" if "task" in keys else "")
    subtasks = next((key for key in keys if "subtask" in key and key in offer.frame_texts), "")
    lines = [f"instruction: {{key: {json.dumps(words)}}}" if words else 'instruction: {text: "?"}']
    lines += ["task: {key: task}"] if "task" in keys and words != "task" else []
    lines += [f"subtasks: {{key: {json.dumps(subtasks)}}}"] if subtasks else []
    unused = [key for key in keys if key not in {words, subtasks, "task"}]
    return lines + [f"# not mapped: the text {key}, e.g. {json.dumps(offer.texts[key])}" for key in unused]


def _name(key: str) -> str:
    """Returns a name for what a key holds: its last part, of letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", re.split(r"[/.]", key)[-1])
