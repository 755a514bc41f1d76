"""Tables in Markdown, as a pull request and the pages of Dagster show them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[str] = ()) -> str:
    """A table; the columns of the headings in `numbers` are aligned to the right."""
    rule = ["---:" if heading in numbers else "---" for heading in headings]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in (headings, rule, *rows))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
