"""YAML mappings that remember file and line, so that a mistake in a configuration file can be pointed at."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml


class ConfigurationError(ValueError):
    """Raised for a mistake in a configuration file; the message starts with ``file:line``."""


class YamlSection:
    """One mapping of a YAML file, taken apart key by key with errors that name file, line and key.

    Args:
        node: the mapping's node.
        path: the file, for messages.
        name: dotted place in the file, e.g. ``cameras.front``; "" at the top.

    Raises:
        ConfigurationError: the node is not a mapping with unique text keys.
    """

    def __init__(self, node: yaml.Node | None, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.line = 1 if node is None else node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise ConfigurationError(f"{path}:{self.line}: {name or 'the file'} must be a mapping of keys to values")
        self._values: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in self._values:
                raise ConfigurationError(f"{path}:{key.start_mark.line + 1}: key {key.value!r} is given twice")
            self._values[key.value] = value
            self._lines[key.value] = key.start_mark.line + 1

    @classmethod
    def read(cls, path: Path) -> YamlSection:
        """Returns the top mapping of a YAML file.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigurationError: the file is not YAML or not a mapping.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no robot or configuration file {path}")
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            line = 1 if mark is None else mark.line + 1
            raise ConfigurationError(f"{path}:{line}: not a YAML file: {getattr(error, 'problem', error)}") from error
        return cls(node, path, "")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of this mapping, in file order."""
        return tuple(self._values)

    def allow(self, *keys: str) -> None:
        """Refuses every key other than these.

        Raises:
            ConfigurationError: names the unknown key and the nearest valid one.
        """
        for key in self._values:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
                raise self.error(key, f"unknown key; did you mean {near[0]!r}? The keys here are: {', '.join(keys)}")

    def text(self, key: str, *, default: str | None = None, choices: Sequence[str] = ()) -> str:
        """Returns a non-empty text, one of `choices` when there are any."""
        value = self._scalar(key, default)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"expected a text; got {value!r}")
        if choices and value not in choices:
            near = difflib.get_close_matches(value, choices, n=1, cutoff=0.0)
            raise self.error(key, f"got {value!r}; did you mean {near[0]!r}? It is one of: {', '.join(choices)}")
        return value

    def number(
        self, key: str, *, default: float | None = None, minimum: float = float("-inf"), maximum: float = float("inf")
    ) -> float:
        """Returns a finite number within [minimum, maximum]."""
        value = self._scalar(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"expected a number; got {value!r}")
        if not minimum <= value <= maximum or value in (float("inf"), float("-inf")):
            raise self.error(key, f"expected a number from {minimum:g} to {maximum:g}; got {value:g}")
        return float(value)

    def optional_number(self, key: str, *, minimum: float = float("-inf")) -> float | None:
        """Returns a number, or None where the key is left out."""
        return self.number(key, minimum=minimum) if key in self else None

    def whole(self, key: str, *, default: int | None = None, minimum: int, maximum: int) -> int:
        """Returns a whole number within [minimum, maximum]."""
        value = self._scalar(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise self.error(key, f"expected a whole number from {minimum} to {maximum}; got {value!r}")
        return value

    def truth(self, key: str) -> bool:
        """Returns true or false."""
        value = self._scalar(key, None)
        if not isinstance(value, bool):
            raise self.error(key, f"expected true or false; got {value!r}")
        return value

    def section(self, key: str) -> YamlSection:
        """Returns the mapping under a key."""
        return YamlSection(self._node(key), self.path, self._place(key))

    def sections(self, key: str) -> dict[str, YamlSection]:
        """Returns the mappings under a mapping of names, in file order; at least one."""
        named = self.section(key)
        if not named.keys:
            raise self.error(key, "needs at least one entry")
        return {name: named.section(name) for name in named.keys}

    def error(self, key: str, message: str) -> ConfigurationError:
        """Returns the error for a key of this mapping, "" for the mapping itself."""
        return ConfigurationError(f"{self.path}:{self._lines.get(key, self.line)}: {self._place(key)}: {message}")

    def _place(self, key: str) -> str:
        return ".".join(filter(None, (self.name, key)))

    def _node(self, key: str) -> yaml.Node:
        if key not in self._values:
            raise self.error(key, "this key is missing")
        return self._values[key]

    def _scalar(self, key: str, default: object) -> object:
        if key not in self._values and default is not None:
            return default
        node = self._node(key)
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(key, "expected a single value")
        return yaml.SafeLoader("").construct_object(node)
