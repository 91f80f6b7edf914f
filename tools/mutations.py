"""Every small fault that can be put into a module: the operators of `tools/mutants.py`."""

import ast
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

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
    source: str
    """The line that it begins on."""
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
        self._lines = source.splitlines(keepends=True)
        for line in self._lines:
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
            source=self._lines[node.lineno - 1].decode().strip(),
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

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self._unordered.add(id(node.type))
        self.generic_visit(node)

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
        if name == "isinstance" or (
            isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "endswith")
        ):
            self._unordered |= {id(argument) for argument in node.args}
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
