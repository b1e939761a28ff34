"""Which part of the project may import which, read from the source without importing it."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {name: ROOT / name for name in ("vla_policy", "sim_envs", "ros2_nodes")} | {
    "vla_datasets": ROOT / "datasets" / "vla_datasets"
}
ROS = {"rclpy", "rcl_interfaces", "builtin_interfaces", "ament_index_python", "launch", "launch_ros"}
SIMULATION = {"mujoco", "mink", "gymnasium"}
# What each package must not import. Only vla_policy/cli may reach further, and only inside functions.
FORBIDDEN = {
    "vla_policy": {"vla_datasets", "sim_envs", "ros2_nodes", "zarr", *SIMULATION, *ROS},
    "vla_datasets": {"sim_envs", "ros2_nodes", *SIMULATION, *ROS},
    "sim_envs": {"ros2_nodes", *ROS},
    "ros2_nodes": {"sim_envs", "mujoco", "mink"},
}
EXEMPT = {"ros2_nodes/sim_node.py": {"sim_envs"}}


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    is_lazy: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(source: str) -> Iterator[Import]:
    """Yields every import; one inside a function or under `if TYPE_CHECKING` is lazy."""

    def visit(node: ast.AST, is_lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, is_lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import("." * node.level + (node.module or ""), node.lineno, is_lazy)
        is_lazy = is_lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_lazy = is_lazy or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, is_lazy)

    yield from visit(ast.parse(source), False)


def is_forbidden(package: str, relative: str, found: Import) -> bool:
    """Whether a file of a package, named from the repository root, must not have this import."""
    if found.top not in FORBIDDEN[package] and not (package != "ros2_nodes" and is_ros(found.top)):
        return False
    if relative.startswith("vla_policy/cli/") and found.is_lazy:
        return False
    return found.top not in EXEMPT.get(relative, set())


def is_ros(module: str) -> bool:
    return module in ROS or module.endswith(("_msgs", "_srvs"))


def sources(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_point_one_way(package: str) -> None:
    assert sources(package), f"{PACKAGES[package]} has no Python files"
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in sources(package)
        for found in imports(path.read_text(encoding="utf-8"))
        if is_forbidden(package, path.relative_to(PACKAGES[package].parent).as_posix(), found)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("package", "relative", "source", "expected"),
    [
        ("vla_policy", "vla_policy/model.py", "import zarr.storage", True),
        ("vla_policy", "vla_policy/model.py", "def f():\n    from rclpy.node import Node", True),
        ("vla_policy", "vla_policy/cli/eval.py", "from sim_envs import rollout", True),
        ("vla_policy", "vla_policy/cli/eval.py", "def f():\n    from sim_envs import rollout", False),
        ("vla_policy", "vla_policy/model.py", "from sensor_msgs.msg import Image", True),
        ("ros2_nodes", "ros2_nodes/policy_node.py", "if True:\n    import sim_envs", True),
        ("ros2_nodes", "ros2_nodes/sim_node.py", "import sim_envs", False),
        ("ros2_nodes", "ros2_nodes/sim_node.py", "from sensor_msgs.msg import Image", False),
        ("sim_envs", "sim_envs/rollout.py", "from vla_policy.control import executor", False),
        ("vla_datasets", "vla_datasets/store.py", "try:\n    import mujoco\nfinally:\n    pass", True),
    ],
)
def test_the_check_sees_what_it_should(package: str, relative: str, source: str, expected: bool) -> None:
    assert any(is_forbidden(package, relative, found) for found in imports(source)) is expected


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("vla_policy", ["retrieval"]),
        ("vla_datasets", ["train", "convert", "view"]),
        ("sim_envs", ["sim", "train", "metaworld"]),
        ("ros2_nodes", ["sim"]),
    ],
)
def test_what_is_imported_is_declared(package: str, extras: list[str]) -> None:
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]): node.value for node in setup.body if isinstance(node, ast.Assign)}
    lines = list(ast.literal_eval(assigned["DEPENDENCIES"]))
    lines += [line for extra in extras for line in ast.literal_eval(assigned["EXTRAS"])[extra]]
    lines += ast.literal_eval(assigned["WITHOUT_DEPENDENCIES"])
    declared = {re.split(r"[^\w-]", line)[0].lower() for line in lines}
    providers = packages_distributions()
    known = {*sys.stdlib_module_names, *PACKAGES}
    undeclared = {
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in sources(package)
        for found in imports(path.read_text(encoding="utf-8"))
        if found.top not in known and not is_ros(found.top)
        if not (found.is_lazy and path.parent.name == "cli")
        if not declared & {name.lower().replace("_", "-") for name in providers.get(found.top, [found.top])}
    }
    assert not undeclared, "\n".join(sorted(undeclared))


def test_package_xml_names_the_ros_packages_in_use() -> None:
    declared = {element.text for element in ElementTree.parse(ROOT / "package.xml").getroot().iter("exec_depend")}
    files = [*sources("ros2_nodes"), *(ROOT / "launch").glob("*.py")]
    used = {found.top for path in files for found in imports(path.read_text(encoding="utf-8")) if is_ros(found.top)}
    assert used == {name for name in declared if name and is_ros(name)}


@pytest.mark.parametrize("directory", ["datasets", "launch"])
def test_no_package_shadows_another_project(directory: str) -> None:
    assert (ROOT / directory).is_dir()
    assert not (ROOT / directory / "__init__.py").exists(), f"{directory}/__init__.py would shadow another {directory}"


def test_every_package_directory_is_a_package() -> None:
    bare = {path.parent for name in PACKAGES for path in sources(name) if not (path.parent / "__init__.py").exists()}
    assert not bare, f"find_packages would leave these out of an installation: {sorted(map(str, bare))}"


def test_tests_mirror_the_tree() -> None:
    packages = {path.parent.relative_to(PACKAGES[name].parent) for name in PACKAGES for path in sources(name)}
    tests = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")} - {Path()}
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert tests - {Path("launch"), Path("benchmarks"), Path("examples")} <= packages
