"""Reading JSON that people and scripts send to the control port: one clear error that names the field."""

from __future__ import annotations

import re
from typing import Any, TypeVar, overload

T = TypeVar("T")
_REQUIRED: Any = object()


class BadInputError(ValueError):
    """`field` is the path of the offending field, ``""`` for the whole body; `message` says what it must be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field, self.message = field, message


class Fields:
    """Takes named fields out of a JSON object one at a time; `done` refuses whatever was not taken.

    A field that is absent or null is its `default`; without a default it is required.
    """

    def __init__(self, data: Any, where: str = "") -> None:
        if not isinstance(data, dict):
            raise BadInputError(where, f"must be a JSON object, not {_kind(data)}")
        self._data: dict[str, Any] = dict(data)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    def any(self, name: str, *, default: Any = _REQUIRED) -> Any:
        value = self._data.pop(name, None)
        if value is None:
            if default is _REQUIRED:
                raise self.error(name, "is required")
            return default
        return value

    @overload
    def text(self, name: str) -> str: ...
    @overload
    def text(self, name: str, *, default: T) -> str | T: ...
    def text(self, name: str, *, default: Any = _REQUIRED) -> Any:
        return self._typed(name, str, "a string", default)

    @overload
    def flag(self, name: str) -> bool: ...
    @overload
    def flag(self, name: str, *, default: T) -> bool | T: ...
    def flag(self, name: str, *, default: Any = _REQUIRED) -> Any:
        return self._typed(name, bool, "true or false", default)

    @overload
    def integer(self, name: str, *, least: int = ..., most: int = ...) -> int: ...
    @overload
    def integer(self, name: str, *, default: T, least: int = ..., most: int = ...) -> int | T: ...
    def integer(self, name: str, *, default: Any = _REQUIRED, least: int = -(2**53), most: int = 2**53) -> Any:
        value = self.any(name, default=default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"must be a whole number, not {_kind(value)}")
        return self._within(name, value, least, most)

    @overload
    def number(self, name: str, *, least: float, most: float) -> float: ...
    @overload
    def number(self, name: str, *, default: T, least: float, most: float) -> float | T: ...
    def number(self, name: str, *, default: Any = _REQUIRED, least: float, most: float) -> Any:
        value = self.any(name, default=default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, f"must be a number, not {_kind(value)}")
        return float(self._within(name, value, least, most))

    @overload
    def choice(self, name: str, choices: tuple[str, ...]) -> str: ...
    @overload
    def choice(self, name: str, choices: tuple[str, ...], *, default: T) -> str | T: ...
    def choice(self, name: str, choices: tuple[str, ...], *, default: Any = _REQUIRED) -> Any:
        value = self.any(name, default=default)
        if value is not default and value not in choices:
            raise self.error(name, f"must be one of {', '.join(choices)}, not {value!r}")
        return value

    def object(self, name: str, *, default: Any = _REQUIRED) -> Fields:
        return Fields(self.any(name, default=default), self._path(name))

    def texts(self, name: str, *, default: Any = _REQUIRED) -> dict[str, str]:
        value: dict[str, str] = self._typed(name, dict, "a JSON object of strings", default)
        for key, text in value.items():
            if not isinstance(text, str):
                raise self.error(f"{name}.{key}", f"must be a string, not {_kind(text)}")
        return value

    def pattern(self, name: str, *, default: str) -> re.Pattern[str]:
        try:
            return re.compile(self.text(name, default=default))
        except re.error as error:
            raise self.error(name, f"is not a regular expression: {error}") from None

    def not_called(self, names: dict[str, str]) -> None:
        """Raises BadInputError, with the right name, for a field by a name that it has elsewhere."""
        for other, right in names.items():
            if other in self._data:
                raise self.error(other, f"is called {right} here")

    def done(self) -> None:
        """Raises BadInputError if fields are left over: a misspelt field must not be ignored."""
        for name in self._data:
            raise self.error(name, "is not a field that is known here")

    def error(self, name: str, message: str) -> BadInputError:
        return BadInputError(self._path(name), message)

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def _typed(self, name: str, kind: type, wanted: str, default: Any) -> Any:
        value = self.any(name, default=default)
        if value is not default and not isinstance(value, kind):
            raise self.error(name, f"must be {wanted}, not {_kind(value)}")
        return value

    def _within(self, name: str, value: Any, least: float, most: float) -> Any:
        if not least <= value <= most:
            raise self.error(name, f"must be between {least} and {most}, not {value}")
        return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
