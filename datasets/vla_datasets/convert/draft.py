"""A mapping file to fill in, from what a data set says about itself."""

from __future__ import annotations

import json
import re

from vla_datasets.convert.foreign import Field, ForeignDataset

_HEAD = """\
# What {path} does not say about itself. Replace every '?', delete what is not wanted, then:
#   vla data import {path} --mapping THIS_FILE --out STORE
# A dimension's value in the store is scale * stored number + offset (scale: 1 and offset: 0 unless given).
# Units: rad, m, s, "1" (a gripper opening is "1": 0 = closed .. 1 = open).
# An action part may say `ahead: 1`: the action of frame i is the key's value at frame i + 1.
"""
_NO_STATE = {"success", "done", "dones", "reward", "rewards"}


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
    others = {key: field for key, field in offer.fields.items() if key not in pictures and len(field.shape) < 2}
    vectors = {key: field for key, field in others.items() if _name(key) not in _NO_STATE}
    actions = {key: field for key, field in vectors.items() if _name(key).startswith("action")}
    for place, fields in (("state", {k: f for k, f in vectors.items() if k not in actions}), ("action", actions)):
        lines.append(f"\n{place}:")
        for key, field in fields.items():
            lines += _vector(key, field)
    success = next((key for key in offer.fields if _name(key) == "success"), None)
    lines += ["", *_text(offer.texts)]
    lines.append(
        'success: {all: "?"}  # true or false' if success is None else f"success: {{key: {json.dumps(success)}}}"
    )
    return "\n".join(lines) + "\n"


def _vector(key: str, field: Field) -> list[str]:
    width = field.shape[0] if field.shape else 1
    names = field.names or tuple(f"{_name(key)}_{column}" for column in range(width))
    lines = [f"  {_name(key)}:", f"    key: {json.dumps(key)}", "    dimensions:"]
    units = field.units or ("?",) * width
    return lines + [f"      {json.dumps(name)}: {{unit: {json.dumps(unit)}}}" for name, unit in zip(names, units)]


def _text(texts: object) -> list[str]:
    keys = list(texts) if isinstance(texts, dict) else []
    words = next((key for key in keys if "instruction" in key), "task" if "task" in keys else "")
    lines = [f"instruction: {{key: {json.dumps(words)}}}" if words else 'instruction: {text: "?"}']
    return lines + (["task: {key: task}"] if "task" in keys and words != "task" else [])


def _name(key: str) -> str:
    """Returns a name for what a key holds: its last part, of letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", re.split(r"[/.]", key)[-1])
