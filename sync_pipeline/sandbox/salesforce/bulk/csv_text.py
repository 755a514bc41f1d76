"""Bulk's CSV: which rows a file holds, and how results are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

DELIMITERS = {"COMMA": ",", "TAB": "\t", "PIPE": "|", "SEMICOLON": ";", "CARET": "^", "BACKQUOTE": "`"}
LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}


class CsvError(ValueError):
    """A file that cannot be read at all."""


def read(text: str, delimiter: str, line_ending: str) -> tuple[list[str], list[list[str] | str]]:
    """Header and rows; a row that is not well-formed stands as its error message. Raises CsvError."""
    header_line = text.partition("\n")[0]
    if header_line.endswith("\r") != (line_ending == "CRLF"):
        raise CsvError(f"LineEnding is invalid on user data. Current LineEnding setting is {line_ending}")
    if not header_line.strip():
        raise CsvError("The file needs a header row")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[delimiter], strict=True)
    try:
        header = next(reader)
    except csv.Error as error:
        raise CsvError(f"The header row is not well-formed: {error}") from None
    rows: list[list[str] | str] = []
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return header, rows
        except csv.Error as error:
            rows.append(f"Error parsing CSV row: {error}")
            continue
        if row:
            rows.append(_checked(header, row))


def write(header: list[str], rows: Iterable[list[str]], delimiter: str = "COMMA", line_ending: str = "LF") -> bytes:
    """A result file: every value in quotes."""
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=DELIMITERS[delimiter], lineterminator=LINE_ENDINGS[line_ending], quoting=csv.QUOTE_ALL
    )
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode()


def cell(value: Any) -> str:
    """A value as query results show it: null is empty, dateTimes end in Z."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.endswith(".000+0000") and len(value) == 28:
        return f"{value[:-5]}Z"
    return str(value)


def _checked(header: list[str], row: list[str]) -> list[str] | str:
    if len(row) != len(header):
        return f"The number of columns ({len(row)}) is not that of the header ({len(header)})"
    if any(value.lstrip(" ").startswith('"') and value.startswith(" ") for value in row):
        return "A space before a quote is not allowed"
    return row
