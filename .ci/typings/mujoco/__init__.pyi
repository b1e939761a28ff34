# MuJoCo's extension modules ship without type information; this tells pyright so.
from typing import Any

def __getattr__(name: str) -> Any: ...
