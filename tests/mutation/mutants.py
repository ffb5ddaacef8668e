"""The mutants of a module: its source with one small fault each.

Poodle's mutators replace calls, comparisons, operators, numbers, keywords and returned values. Three of our own add
what guards most often lose: a statement, a condition, and what is in a collection.
"""

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace

from poodle.data_types import FileMutation, Mutator
from poodle.mutators import (
    AugAssignMutator,
    BinaryOperationMutator,
    ComparisonMutator,
    DecoratorMutator,
    FunctionCallMutator,
    KeywordMutator,
    LambdaReturnMutator,
    NumberMutator,
    ReturnMutator,
    UnaryOperationMutator,
)


@dataclass(frozen=True)
class Mutant:
    number: int  # of the line
    line: str  # that it begins in, without its indentation
    function: str  # that it is in, the innermost one; empty in none
    was: str
    becomes: str
    source: str  # of the whole module


class _Walking(Mutator):
    def create_mutations(self, parsed_ast: ast.Module, *_: object, **__: object) -> list[FileMutation]:
        self.add_parent_attr(parsed_ast)
        return [
            self.create_file_mutation(where, text)
            for node in ast.walk(parsed_ast)
            for where, text in self.changes(node)
            if not self.is_annotation(node)
        ]

    def changes(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        """What is replaced, and by what."""
        raise NotImplementedError


class StatementMutator(_Walking):
    """Leaves out what raises, deletes or assigns to something that is there."""

    mutator_name = "Statement"

    def changes(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        replaced = isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)
        if replaced or isinstance(node, ast.Raise | ast.Delete | ast.AugAssign):
            yield node, "pass"


class ConditionMutator(_Walking):
    """A branch that is always taken, and one that never is."""

    mutator_name = "Condition"

    def changes(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        tests = node.ifs if isinstance(node, ast.comprehension) else []
        if isinstance(node, ast.If | ast.IfExp):
            tests = [node.test]
        for test in tests:
            yield test, "True"
            yield test, "False"


class CollectionMutator(_Walking):
    """What is listed is listed no more."""

    mutator_name = "Collection"

    def changes(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        of_a_call = isinstance(getattr(node, "parent", None), ast.Call | ast.Assign | ast.Return | ast.keyword)
        if isinstance(node, ast.Set) and node.elts:
            yield node, "set()"
        elif isinstance(node, ast.Dict) and node.keys:
            yield node, "{}"
        elif isinstance(node, ast.List | ast.Tuple) and isinstance(node.ctx, ast.Load) and node.elts and of_a_call:
            yield node, "[]" if isinstance(node, ast.List) else "()"


MUTATORS = (
    AugAssignMutator,
    BinaryOperationMutator,
    CollectionMutator,
    ComparisonMutator,
    ConditionMutator,
    DecoratorMutator,
    FunctionCallMutator,
    KeywordMutator,
    LambdaReturnMutator,
    NumberMutator,
    ReturnMutator,
    StatementMutator,
    UnaryOperationMutator,
)


def mutants(source: str) -> list[Mutant]:
    """All that differ from it and from one another, in the order of the lines."""
    tree = ast.parse(source)
    texts = _keep_together_what_is_in_f_strings(tree)
    lines = source.encode().splitlines(keepends=True)  # columns count bytes
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: dict[str, Mutant] = {}
    options = SimpleNamespace(mutator_opts={})
    for mutator in MUTATORS:
        for change in mutator(config=options, echo=print).create_mutations(deepcopy(tree), source.splitlines()):
            span = (change.lineno, change.col_offset, change.end_lineno, change.end_col_offset)
            if span in texts:
                continue
            begin, end = starts[span[0] - 1] + span[1], starts[span[2] - 1] + span[3]
            text = source.encode()
            was = text[begin:end].decode()
            mutated = (text[:begin] + change.text.encode() + text[end:]).decode()
            if ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source)):
                line = lines[span[0] - 1].decode().strip()
                function = _function_at(tree, span[0])
                found.setdefault(mutated, Mutant(span[0], line, function, was, change.text, mutated))
    return sorted(found.values(), key=lambda mutant: mutant.number)


def _function_at(tree: ast.Module, line: int) -> str:
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or line)
    ]
    return max(around, key=lambda node: node.lineno).name if around else ""


def _keep_together_what_is_in_f_strings(tree: ast.Module) -> set[tuple[int, int, int, int]]:
    """Gives all within an f-string, which Python 3.11 places wrongly, the place of the whole; returns these places.

    What they say is for people: it is not mutated.
    """
    places = set()
    for text in ast.walk(tree):
        if isinstance(text, ast.JoinedStr):
            place = Mutator.get_location(ast.copy_location(ast.Constant(""), text))
            places.add(place)
            for node in ast.walk(text):
                if isinstance(node, ast.expr):
                    node.lineno, node.col_offset, node.end_lineno, node.end_col_offset = place
    return places
