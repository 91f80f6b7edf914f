"""How many small faults the tests notice: each is put into a copy of a module, and the module's tests are run.

Our own, for neither library fits: mutmut 3 changes the bodies of functions only, and the policy is tables (rows,
limits, defaults); cosmic-ray starts pytest anew for each mutant, three seconds of which half a second is tests. Here
one process imports what is slow (pytest, hypothesis, torch) and forks for each mutant: a killed one takes a second.

`tests/mutants.toml` says which tests belong to which modules; `tests/equivalent_mutants.toml` lists the mutants that
change nothing, each with the reason. Fails when a module's score is below the least, or a listed mutant is killed.
"""

import argparse
import ast
import compileall
import importlib
import os
import py_compile
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = ("supervisor", "trainer")

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one module."""

    module: str
    """Path from the root of the project."""
    where: str
    """Qualified name of the function or class that it is in."""
    change: str
    """Code before → code after."""
    line: int
    begin: int
    end: int
    """Bytes of the source that `text` stands in the place of."""
    text: str
    row_swap: bool = False
    """Of two neighbours in a table ROWS: never left to the sample."""


def short(node: ast.AST | str) -> str:
    text = node if isinstance(node, str) else " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else text[:89] + "…"


def _named(item: ast.expr) -> str:
    """A row of a table by its name."""
    keywords = item.keywords if isinstance(item, ast.Call) else []
    name = next((short(keyword.value) for keyword in keywords if keyword.arg == "name"), "")
    return name or short(item)


class Finder(ast.NodeVisitor):
    """Every mutant of a module. Sentences, annotations, decorators, assertions, errors and logging are left alone."""

    def __init__(self, module: str, source: bytes) -> None:
        self.module = module
        self.found: list[Mutant] = []
        self._names: list[str] = []
        self._assigned: list[set[str]] = [set()]
        self._table = ""
        self._unordered: set[int] = set()
        """Tuples whose order changes nothing: what is looked for in them is there or not."""
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts
        self.visit(ast.parse(source))

    def _add(self, node: ast.expr | ast.stmt, after: ast.AST | str, change: str = "", **more: Any) -> None:
        text = after if isinstance(after, str) else ast.unparse(ast.fix_missing_locations(after))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        mutant = Mutant(
            module=self.module,
            where=".".join(self._names) or "module",
            change=change or f"{short(node)} → {short(text)}",
            line=node.lineno,
            begin=self._starts[node.lineno - 1] + node.col_offset,
            end=self._starts[node.end_lineno - 1] + node.end_col_offset,
            text=f"({text})" if isinstance(node, ast.expr) else text,
            **more,
        )
        self.found.append(mutant)

    def _change(self, node: Any, **fields: Any) -> None:
        after = deepcopy(node)
        for name, value in fields.items():
            setattr(after, name, value)
        self._add(node, after)

    def _inside(self, node: Any, parts: Sequence[Any]) -> None:
        self._names.append(node.name)
        self._assigned.append(set())
        for part in parts:
            self.visit(part)
        self._assigned.pop()
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self._assigned[-1].add(node.name)
        self._names.append(node.name)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self._assigned.append({argument.arg for argument in arguments})
        for statement in node.body:
            self.visit(statement)
        self._assigned.pop()
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - likewise

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node, node.body)

    def visit_Assert(self, node: ast.Assert) -> None:
        """What mypy is told is no behaviour."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Words, but for the raise itself."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Sentences; and Python 3.11 does not know the places in them."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._assigned[-1].add(node.target.id)
        if node.value is not None:
            self._table, before = (node.target.id if isinstance(node.target, ast.Name) else ""), self._table
            self.visit(node.value)
            self._table = before

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        known = isinstance(target, ast.Name) and target.id in self._assigned[-1]
        if known or isinstance(target, ast.Attribute | ast.Subscript):
            self._add(node, "pass")
        self._assigned[-1] |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(node, "pass")
        if type(node.op) in OPERATORS:
            self._change(node, op=OPERATORS[type(node.op)]())
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) or _logs(node.value):
            return
        if not isinstance(node.value, ast.Yield):
            self._add(node, "pass")
        self.visit(node.value)

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "pass")

    def visit_Delete(self, node: ast.Delete) -> None:
        self._add(node, "pass")

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:
                self._change(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]])
            if isinstance(op, ast.In | ast.NotIn):
                self._unordered.add(id(node.comparators[at]))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._change(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for at in range(len(node.values)):
            rest = node.values[:at] + node.values[at + 1 :]
            after = rest[0] if len(rest) == 1 else ast.BoolOp(op=node.op, values=rest)
            self._add(node, after)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(node, node.operand)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS:
            self._change(node, op=OPERATORS[type(node.op)]())
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._add(node, node.body)
        self._add(node, node.orelse)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add(node, repr(not value))
        elif isinstance(value, int | float):
            self._add(node, repr(value + 1))
            self._add(node, repr(value - 1))
        elif isinstance(value, str) and value and not set(value) & {" ", "\n"}:
            self._add(node, repr(value + "XX"))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if _logs(node):
            return
        if name == "say":  # of words, but not what they are about
            for keyword in node.keywords:
                if not isinstance(keyword.value, ast.Constant):
                    self.visit(keyword.value)
            return
        if name == "replace" or name[:1].isupper():
            for at, keyword in enumerate(node.keywords):
                if keyword.arg is not None:
                    after = ast.Call(
                        func=node.func, args=node.args, keywords=node.keywords[:at] + node.keywords[at + 1 :]
                    )
                    self._add(node, after, change=f"{name}(…): {short(keyword)} dropped")
        self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        table, self._table = self._table, ""
        items = node.elts
        for at, item in enumerate(items):
            after = ast.Tuple(elts=items[:at] + items[at + 1 :], ctx=ast.Load())
            self._add(node, after, change=f"{_named(item)} dropped of {table or 'a tuple'}")
        for at in range(0 if id(node) in self._unordered else len(items) - 1):
            swapped = [*items[:at], items[at + 1], items[at], *items[at + 2 :]]
            change = f"{_named(items[at])} ↔ {_named(items[at + 1])}"
            after = ast.Tuple(elts=swapped, ctx=ast.Load())
            self._add(node, after, change=change, row_swap=table == "ROWS")
        self.generic_visit(node)
        self._table = table

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not isinstance(node.slice, ast.Tuple):  # a tuple there is a type's arguments
            self.visit(node.slice)


def _logs(node: ast.expr) -> bool:
    """Whether it speaks to a log, a terminal or mypy."""
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute):
        return isinstance(called.value, ast.Name) and called.value.id in ("log", "logging", "warnings")
    return isinstance(called, ast.Name) and called.id in ("print", "assert_never")


@dataclass(kw_only=True)
class Score:
    """Of one module."""

    module: str
    total: int
    killed: int = 0
    survived: list[Mutant] = field(default_factory=list)
    equivalent: int = 0

    @property
    def share(self) -> float:
        judged = self.killed + len(self.survived)
        return self.killed / judged if judged else 1.0


class Workshop:
    """A copy of the sources, in which one module at a time is spoilt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in SOURCES:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            compileall.compile_dir(folder / name, quiet=1, invalidation_mode=unchecked)
        self._path = [str(folder / name) for name in SOURCES]
        os.environ["PYTHONPATH"] = os.pathsep.join(self._path)  # for the processes that tests start
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ["HYPOTHESIS_PROFILE"] = "ci"

    def killed(self, mutant: Mutant | None, stages: Sequence[Sequence[str]], limit_s: float) -> bool:
        """Whether the tests of a stage fail, or take longer than `limit_s`."""
        if mutant is None:
            return any(self._fails(tests, limit_s) for tests in stages)
        path = self.folder / mutant.module
        source = path.read_bytes()
        for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            cached.unlink()
        path.write_bytes(source[: mutant.begin] + mutant.text.encode() + source[mutant.end :])
        try:
            return any(self._fails(tests, limit_s) for tests in stages)
        finally:
            path.write_bytes(source)
            py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)

    def _fails(self, tests: Sequence[str], limit_s: float) -> bool:
        pid = os.fork()
        if pid == 0:
            try:
                self._run(tests)
            except BaseException:  # noqa: BLE001 - no child may go on as its parent
                traceback.print_exc()
            os._exit(70)
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status != 0
            time.sleep(0.01)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return True

    def _run(self, tests: Sequence[str]) -> None:
        """In the child: pytest, and its exit code."""
        import pytest  # noqa: PLC0415 - the parent has imported it already

        os.setsid()
        sys.dont_write_bytecode = True
        sys.path[:0] = [*self._path, str(ROOT)]
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        words = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={self.folder / 'tmp'}"]
        words += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of hypothesis, imported beforehand
        os._exit(int(pytest.main([*words, *tests])))


def read(name: str) -> dict[str, Any]:
    with (ROOT / "tests" / name).open("rb") as file:
        return tomllib.load(file)


def modules(groups: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The modules whose path holds one of the words, with their group."""
    for group in groups:
        left_out = {path for pattern in group.get("without", ()) for path in ROOT.glob(pattern)}
        for path in sorted({path for pattern in group["modules"] for path in ROOT.glob(pattern)} - left_out):
            name = str(path.relative_to(ROOT))
            if path.name != "__init__.py" and (not wanted or any(word in name for word in wanted)):
                yield name, group


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only modules whose path holds one of these")
    parser.add_argument("--sample", type=int, default=60, metavar="N", help="mutants of a module; 0: all (default 60)")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--verbose", action="store_true", help="tell each mutant as it is judged")
    given = parser.parse_args()
    config = read("mutants.toml")
    entries = read("equivalent_mutants.toml")["equivalent"]
    listed = {(entry["module"], entry["where"], change) for entry in entries for change in entry["changes"]}
    os.chdir(ROOT)
    os.nice(15)
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen = list(modules(config["group"], given.words))
    for name in ("pytest", "hypothesis", *{one for _, group in chosen for one in group.get("preload", ())}):
        importlib.import_module(name)
    scores, wrong, stale = [], [], set(listed)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workshop = Workshop(Path(folder))
        for module, group in chosen:
            found = Finder(module, (ROOT / module).read_bytes()).found
            stale -= {(m.module, m.where, m.change) for m in found}
            kept = [m for m in found if m.row_swap]
            rest = [m for m in found if not m.row_swap]
            size = min(given.sample or len(rest), len(rest))
            sample = sorted([*kept, *random.Random(given.seed).sample(rest, size)], key=lambda m: (m.line, m.begin))
            stages = [group["tests"], *([group["then"]] if "then" in group else [])]
            begun_s = time.monotonic()
            if workshop.killed(None, stages, 600.0):
                print((Path(folder) / "log").read_text())
                print(f"{module}: its tests fail without a mutant")
                return 1
            limit_s = 20.0 + 5 * (time.monotonic() - begun_s)
            score = Score(module=module, total=len(found))
            for mutant in sample:
                killed = workshop.killed(mutant, stages, limit_s)
                known = (mutant.module, mutant.where, mutant.change) in listed
                if given.verbose or not (killed or known):
                    word = "killed" if killed else "equivalent" if known else "SURVIVED"
                    print(f"{word} {mutant.module}:{mutant.line} {mutant.where}: {mutant.change}", flush=True)
                if killed:
                    score.killed += 1
                    wrong += [mutant] if known else []
                elif known:
                    score.equivalent += 1
                else:
                    score.survived.append(mutant)
            scores.append(score)
            print(_line(score), flush=True)
    print(f"\n{'module':55} {'mutants':>8} {'judged':>7} {'killed':>7} {'survived':>8} {'equivalent':>10} {'score':>6}")
    for score in scores:
        print(_line(score))
    for mutant in wrong:
        print(f"listed as equivalent, and killed: {mutant.module}:{mutant.line} {mutant.where}: {mutant.change}")
    names = {module for module, _ in chosen}
    gone = [key for key in stale if key[0] in names]
    for key in gone:
        print(f"listed as equivalent, and no longer there: {': '.join(key)}")
    low = [score.module for score in scores if score.share < config["least"]]
    if low:
        print(f"under {config['least']:.0%}: {', '.join(low)}")
    return 1 if low or wrong or gone else 0


def _line(score: Score) -> str:
    judged = score.killed + len(score.survived) + score.equivalent
    return (
        f"{score.module:55} {score.total:8} {judged:7} {score.killed:7} {len(score.survived):8} {score.equivalent:10}"
        f" {score.share:6.0%}"
    )


if __name__ == "__main__":
    sys.exit(main())
