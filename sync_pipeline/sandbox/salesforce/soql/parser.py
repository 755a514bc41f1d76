"""SOQL text to syntax tree, and errors that point into the text as Salesforce's do."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path as File
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.soql import ast

_ESCAPES = {
    "n": "\n",
    "N": "\n",
    "r": "\r",
    "R": "\r",
    "t": "\t",
    "T": "\t",
    "b": "\b",
    "B": "\b",
    "f": "\f",
    "F": "\f",
    '"': '"',
    "'": "'",
    "\\": "\\",
}
_MAX_LENGTH = 100_000


def error(code: str, message: str, text: str, at: int) -> SalesforceError:
    """An error at an offset of the query text, with the line, a caret, and the position counted from 1."""
    at = min(at, len(text))
    start = text.rfind("\n", 0, at) + 1
    row, column = text.count("\n", 0, at) + 1, at - start + 1
    end = text.find("\n", at)
    line = text[start:] if end < 0 else text[start:end]
    shown_from = max(0, column - 41)
    shown = line[shown_from : column + 40]
    caret = " " * (column - 1 - shown_from) + "^"
    return SalesforceError(code, f"\n{shown}\n{caret}\nERROR at Row:{row}:Column:{column}\n{message}")


@lru_cache(maxsize=512)
def parse(text: str) -> ast.Query:
    """The syntax tree of a query. Raises SalesforceError MALFORMED_QUERY."""
    if len(text) > _MAX_LENGTH:
        raise SalesforceError("MALFORMED_QUERY", f"SOQL statements cannot be longer than {_MAX_LENGTH} characters.")
    try:
        return _lark().parse(text)  # type: ignore[return-value]
    except UnexpectedToken as problem:
        if problem.token.type == "$END":
            raise error("MALFORMED_QUERY", "unexpected token: '<EOF>'", text, len(text)) from None
        message = f"unexpected token: '{problem.token}'"
        raise error("MALFORMED_QUERY", message, text, problem.token.start_pos or 0) from None
    except UnexpectedCharacters as problem:
        at = problem.pos_in_stream or 0
        raise error("MALFORMED_QUERY", f"unexpected token: '{text[at]}'", text, at) from None


class _Builder(Transformer[Token, ast.Query]):
    """Builds the tree while parsing."""

    def start(self, parts: list[Any]) -> ast.Query:
        return parts[0]  # type: ignore[no-any-return]

    subquery = group_ = start

    def query(self, parts: list[Any]) -> ast.Query:
        *columns, source, where, group, order, limit, offset = parts
        group_by, having = group or ((), None)
        path, alias = source
        return ast.Query(
            tuple(columns), path, alias, where, group_by, having, tuple(order or ()), limit, offset, path.at
        )

    def column(self, parts: list[Any]) -> ast.Column:
        return ast.Column(parts[0], parts[1])

    def alias(self, parts: list[Token]) -> str:
        return str(parts[0])

    def source(self, parts: list[Any]) -> tuple[ast.Path, str | None]:
        return parts[0], parts[1]

    def where(self, parts: list[Any]) -> ast.Condition:
        return parts[0]  # type: ignore[no-any-return]

    having = where

    def group(self, parts: list[Any]) -> tuple[tuple[ast.Path, ...], ast.Condition | None]:
        return tuple(parts[:-1]), parts[-1]

    def order(self, parts: list[Any]) -> list[ast.Sort]:
        return parts

    def sort(self, parts: list[Any]) -> ast.Sort:
        what, direction, nulls = parts
        return ast.Sort(what, direction == "desc", nulls == "last")

    def direction(self, parts: list[Token]) -> str:
        return str(parts[0]).lower()

    nulls = direction

    def limit(self, parts: list[Token]) -> int:
        return int(parts[0])

    offset = limit

    def and_(self, parts: list[Any]) -> ast.Junction:
        return ast.Junction(True, tuple(parts))

    def or_(self, parts: list[Any]) -> ast.Junction:
        return ast.Junction(False, tuple(parts))

    def not_(self, parts: list[Any]) -> ast.Not:
        return ast.Not(parts[-1])

    def comparison(self, parts: list[Any]) -> ast.Compare:
        operator = str(parts[1]).lower()
        return ast.Compare(parts[0], "!=" if operator == "<>" else operator, parts[2])

    def member(self, parts: list[Token]) -> str:
        return " ".join(str(p).lower() for p in parts)

    def membership(self, parts: list[Any]) -> ast.Member:
        return ast.Member(parts[0], parts[1], tuple(parts[2:]))

    def semijoin(self, parts: list[Any]) -> ast.SemiJoin:
        return ast.SemiJoin(parts[0], parts[1], parts[2])

    def path(self, parts: list[Token]) -> ast.Path:
        return ast.Path(tuple(map(str, parts)), parts[0].start_pos or 0)

    def call(self, parts: list[Any]) -> ast.Call:
        return ast.Call(str(parts[0]).upper(), parts[1], parts[0].start_pos or 0)

    @v_args(inline=True)
    def string(self, token: Token) -> ast.Literal:
        text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), token[1:-1], flags=re.DOTALL)
        return ast.Literal("string", text, str(token), token.start_pos or 0)

    @v_args(inline=True)
    def integer(self, token: Token) -> ast.Literal:
        return ast.Literal("integer", int(token), str(token), token.start_pos or 0)

    @v_args(inline=True)
    def decimal(self, token: Token) -> ast.Literal:
        return ast.Literal("decimal", float(token), str(token), token.start_pos or 0)

    @v_args(inline=True)
    def datetime(self, token: Token) -> ast.Literal:
        return ast.Literal("datetime", str(token).upper(), str(token), token.start_pos or 0)

    @v_args(inline=True)
    def date(self, token: Token) -> ast.Literal:
        return ast.Literal("date", str(token), str(token), token.start_pos or 0)

    @v_args(inline=True)
    def true(self, token: Token) -> ast.Literal:
        return ast.Literal("boolean", True, str(token), token.start_pos or 0)

    @v_args(inline=True)
    def false(self, token: Token) -> ast.Literal:
        return ast.Literal("boolean", False, str(token), token.start_pos or 0)

    @v_args(inline=True)
    def null(self, token: Token) -> ast.Literal:
        return ast.Literal("null", None, str(token), token.start_pos or 0)

    @v_args(inline=True)
    def named(self, name: Token, number: Token | None) -> ast.Literal:
        n = int(number) if number is not None else None
        return ast.Literal("named", (str(name).upper(), n), str(name), name.start_pos or 0)


@lru_cache(maxsize=1)
def _lark() -> Lark:
    grammar = File(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", transformer=_Builder(), maybe_placeholders=True)
