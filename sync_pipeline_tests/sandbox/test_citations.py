"""Every case says which fact it checks, so that a wrong belief is visible (facts: sandbox.md 4.3).

What one vendor does is cited case by case; what is the sandbox's own may be cited by the module.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VENDORS = ("stripe", "salesforce")
FACTS = re.compile(
    r"""\b[Ff]acts?:?\ (\d|[A-Z]|(sandbox|stripe|salesforce)(\.md)?\ \d) | \b[Ff]acts/?\ ?:?\ ?sandbox
    | \b[Ii]ssue\ [A-E]\b | \bAppendix\ [A-C]\b | \bSDK:\w* | https?:// | docs\.stripe\.com | \bREST\d\d\b
    | [\w.-]+/[\w.-]+\#\d+ | \bObject\ reference\b | \b[Tt]he\ contract\b | \b[Ss]andbox\ facts\ \d""",
    re.VERBOSE,
)
SECTION = re.compile(r"(^|\s)\d{1,2}(\.\d+)?(, \d{1,2}(\.\d+)?)*[:;.,]( |$)", re.MULTILINE)
"""How the tests of Salesforce name a section of salesforce.md."""


def cites(text: str, vendor: str) -> bool:
    return bool(FACTS.search(text) or (vendor == "salesforce" and SECTION.search(text)))


def uncited(path: Path) -> list[str]:
    source = path.read_text(encoding="utf-8")
    module = ast.parse(source)
    vendor = path.parent.name
    if vendor not in VENDORS and cites(ast.get_docstring(module) or "", vendor):
        return []
    return [
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        # A decorator may cite the page that its examples are from.
        if not cites((ast.get_docstring(node) or "") + _comments(source, node), vendor)
    ]


def _comments(source: str, node: ast.FunctionDef) -> str:
    first = min((each.lineno for each in node.decorator_list), default=node.lineno)
    lines = source.splitlines()[first - 1 : node.end_lineno]
    return "\n".join(line.partition("# ")[2] for line in lines)


@pytest.mark.parametrize("path", sorted(HERE.rglob("test_*.py")), ids=lambda path: str(path.relative_to(HERE)))
def test_every_case_cites_the_fact_that_it_checks(path: Path) -> None:
    assert uncited(path) == []


@pytest.mark.parametrize(
    ("text", "vendor", "cited"),
    [
        ("Facts 3.4: to the second.", "stripe", True),
        ("Found by an owner of the house (stripe/stripe-go#944).", "stripe", True),
        ("2.5, 2.8: one result per row.", "salesforce", True),
        ("2.5: one result per row.", "stripe", False),
        ("999 less 10 % (100) and 20 % tax on 899 (180) is 1079.", "stripe", False),
        ("An upsert of n rows compares keys some n times.", "salesforce", False),
    ],
)
def test_what_is_a_citation(text: str, vendor: str, cited: bool) -> None:
    assert cites(text, vendor) is cited
