"""What is declared is used, and what is used is declared."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
OURS = {"fred_supervisor", "fred_trainer", "tests", "tools"}
NOT_IMPORTED = {
    "tzdata": "zoneinfo reads it",
    "py-spy": "a program that is run",
    "tensorboard": "torch.utils.tensorboard writes with it",
}


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", each)[0].lower() for each in requirements}


def imported(*folders: str) -> set[str]:
    """Distributions of other people that the sources below these folders import."""
    modules: set[str] = set()
    for folder in folders:
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.partition(".")[0])
    known = packages_distributions()
    return {
        name.lower().replace("_", "-")
        for module in modules - sys.stdlib_module_names - OURS
        for name in known.get(module, [module])[:1]
    }


@pytest.mark.parametrize(
    ("extras", "folder"), [((), "supervisor"), (("train", "notify", "stacks"), "trainer")], ids=["base", "extras"]
)
def test_what_is_declared_is_imported(extras: tuple[str, ...], folder: str) -> None:
    declared = PROJECT["optional-dependencies"]
    wanted = distributions([each for extra in extras for each in declared[extra]] or PROJECT["dependencies"])
    assert wanted - set(NOT_IMPORTED) <= imported(folder, "supervisor")


def test_what_is_imported_is_declared() -> None:
    base, extras = distributions(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    assert imported("supervisor") <= base | distributions(extras["notify"]) | distributions(extras["web"])
    assert imported("trainer") <= base | distributions(extras["train"])
