"""What pip and colcon install, and that set-up is pinned."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def declared_in_setup() -> dict[str, Any]:
    """Returns the literal constants and the literal arguments of setup() in setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    values = [(node.targets[0], node.value) for node in tree.body if isinstance(node, ast.Assign)]
    found = {
        ast.unparse(target): ast.literal_eval(value) for target, value in values if not isinstance(value, ast.Call)
    }
    call = next(node.value for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    return found | {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}


SETUP = declared_in_setup()
SCRIPTS = dict(line.split(" = ") for line in SETUP["SCRIPTS"])


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in pairs}


def required(lines: Iterable[str], found: dict[str, str]) -> dict[str, str]:
    """Adds name -> installed version of what the requirement lines pull in, transitively, to `found`."""
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if name in found and extras == {""}:
            continue
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = installed.version.partition("+")[0]
        for nested in installed.requires or ():
            marker = Requirement(nested).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
                required([nested.partition(";")[0]], found)
    return found


def test_everything_that_setup_installs_is_pinned() -> None:
    lines = [*SETUP["DEPENDENCIES"], *(line for extra in SETUP["EXTRAS"].values() for line in extra)]
    found = required(lines, {})
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("the tests do not run in the environment that `make setup` makes")
    assert len(found) > 100
    graphics = {name for name in found if name.startswith(("nvidia-", "cuda-", "triton"))}  # pinned by torch itself
    different = {
        name: (found[name], pins().get(name)) for name in found.keys() - graphics if found[name] != pins().get(name)
    }
    assert not different, f"installed and not pinned like this in constraints.txt (installed, pinned): {different}"


def test_every_declared_dependency_is_pinned() -> None:
    extras = [line for extra in SETUP["EXTRAS"].values() for line in extra]
    declared = [*SETUP["DEPENDENCIES"], *extras, *SETUP["WITHOUT_DEPENDENCIES"]]
    names = {re.split(r"[^\w-]", line)[0].lower() for line in declared}
    assert names <= pins().keys()


def test_package_xml_and_setup_agree() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("name") == SETUP["name"] == "vla_policy"
    assert package.findtext("version") == SETUP["version"]
    assert package.findtext("license") == SETUP["license"] == "Apache-2.0"
    assert package.findtext("export/build_type") == "ament_python"
    assert (ROOT / "resource" / "vla_policy").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_names_a_function(name: str) -> None:
    module, _, function = SCRIPTS[name].partition(":")
    path = ROOT.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    assert function in {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def test_setup_runs_once() -> None:
    if not (ROOT / ".venv" / "setup.stamp").exists():
        pytest.skip("`make setup` did not make this environment")
    done = subprocess.run([ROOT / ".ci" / "setup"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == done.stderr == ""


def setup_without_python(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs set-up in an empty tree on a machine that has the basic commands and no Python."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("bash", "cat", "cut", "dirname", "env", "sha256sum", "apt-get"):
        (commands / name).symlink_to(shutil.which(name) or "/bin/true")
    (commands / "id").write_text("#!/bin/sh\necho 1000\n")
    (commands / "id").chmod(0o755)
    tree = tmp_path / "tree"
    (tree / ".ci").mkdir(parents=True)
    for name in ("constraints.txt", "pyproject.toml", "setup.py", "setup.cfg", ".ci/setup"):
        shutil.copy(ROOT / name, tree / name)
    script = (tree / ".ci" / "setup").read_text().replace("/usr/bin/python3", "/nonexistent/python3")
    (tree / ".ci" / "setup").write_text(script)
    environment = {"PATH": str(commands), **variables}
    return subprocess.run([tree / ".ci" / "setup"], env=environment, capture_output=True, text=True, check=False)


def test_a_missing_interpreter_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    done = setup_without_python(tmp_path)
    assert done.returncode == 1
    assert "no Python 3.11" in done.stderr
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends python3.11" in done.stderr


def test_a_ros_that_no_interpreter_can_import_is_an_error(tmp_path: Path) -> None:
    done = setup_without_python(tmp_path, ROS_DISTRO="kilted")
    assert done.returncode == 1
    assert "ROS_DISTRO is 'kilted'" in done.stderr


@pytest.mark.colcon
@pytest.mark.parametrize("flags", [(), ("--symlink-install",)], ids=["copy", "symlink"])
def test_colcon_installs_one_package(tmp_path: Path, flags: tuple[str, ...]) -> None:
    pytest.importorskip("colcon_core", reason="colcon is not installed here")
    pytest.importorskip("colcon_ros", reason="colcon-ros is not installed here")
    source = tmp_path / "src" / "vla_policy"
    ignored = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "install", "log", "data", "runs", "outputs"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    built = subprocess.run(
        [sys.executable, "-m", "colcon", "--log-base", "log", "build", *flags],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    prefix = tmp_path / "install" / "vla_policy"
    share = prefix / "share" / "vla_policy"

    assert (prefix / "share/ament_index/resource_index/packages/vla_policy").exists()
    assert (share / "package.xml").exists()
    offered = {
        path.relative_to(ROOT) for path in (ROOT / "launch").rglob("*") if path.suffix in {".py", ".yaml", ".xml"}
    }
    assert {path for path in offered if not (share / path).exists()} == set()

    executables = {name for name in SCRIPTS if os.access(prefix / "lib" / "vla_policy" / name, os.X_OK)}
    assert executables == set(SCRIPTS)
    run = in_workspace(tmp_path)
    for package in ("vla_policy", "vla_datasets", "sim_envs", "ros2_nodes"):
        found = run([sys.executable, "-c", f"import importlib.util as u; print(u.find_spec({package!r}).origin)"])
        assert Path(found.stdout.strip()).is_relative_to(tmp_path), found
    shown = run([str(prefix / "lib" / "vla_policy" / "vla"), "--help"])
    assert "ros-demo" in shown.stdout, shown


def in_workspace(workspace: Path) -> Callable[[list[str]], subprocess.CompletedProcess[str]]:
    """Returns what runs a command away from the source tree, with the workspace sourced."""

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        script = ["bash", "-c", 'source install/setup.bash && exec "$@"', "bash", *command]
        environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "COLCON_TRACE"}}
        return subprocess.run(
            script, cwd=workspace, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run
