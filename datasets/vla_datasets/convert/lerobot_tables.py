"""The columns of LeRobot's parquet tables, with the metadata by which its libraries know them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pyarrow

_PANDAS_INDEX = "__index_level_0__"
# What makes pandas take the words for the index, as LeRobot reads the table.
_PANDAS = {
    "index_columns": [_PANDAS_INDEX],
    "column_indexes": [],
    "columns": [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
         "metadata": None},
        {"name": None, "field_name": _PANDAS_INDEX, "pandas_type": "unicode", "numpy_type": "object",
         "metadata": None},
    ],
}  # fmt: skip


def image_feature(camera: str) -> str:
    """Returns LeRobot's key of a camera."""
    return f"observation.images.{camera}"


def table_schema(features: dict[str, Any]) -> pyarrow.Schema:
    """Returns the columns of a table, with the metadata by which Hugging Face's ``datasets`` knows pictures."""
    types = {"float32": pyarrow.float32(), "int64": pyarrow.int64(), "bool": pyarrow.bool_()}
    fields: list[tuple[str, pyarrow.DataType]] = []
    known: dict[str, Any] = {}
    for key, feature in features.items():
        if feature["dtype"] == "image":
            fields.append((key, pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])))
            known[key] = {"_type": "Image"}
        elif feature["dtype"] != "video":
            (width,) = feature["shape"]
            kind = types[feature["dtype"]]
            fields.append((key, kind if width == 1 else pyarrow.list_(kind, width)))
            value = {"dtype": feature["dtype"], "_type": "Value"}
            known[key] = value if width == 1 else {"feature": value, "length": width, "_type": "Sequence"}
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": known}})})


def task_table(tasks: Mapping[str, int]) -> pyarrow.Table:
    """Returns v3.0's table of the tasks: their words, as pandas' index, and their numbers."""
    table = pyarrow.table({"task_index": list(tasks.values()), _PANDAS_INDEX: list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(_PANDAS)})


def png(picture: np.ndarray) -> bytes:
    """Returns a (h, w, 3) uint8 RGB picture as a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
