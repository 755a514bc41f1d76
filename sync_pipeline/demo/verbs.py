"""The verbs of the stories: what a step may say, what it may be given, and which function does it.

A verb is a phrase and a function whose parameters are what the step takes. The function's annotations are the
schema: they say what is required and of which form, so that a story is checked whole before it is played.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Parameter:
    """`choices` are the only texts allowed, if any are named."""

    form: type
    required: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verb:
    """`act` is called with the play and the parameters. One that `only_looks` changes nothing and takes no time."""

    phrase: str
    act: Callable[..., None]
    parameters: Mapping[str, Parameter]
    only_looks: bool = False

    @property
    def takes_steps(self) -> bool:
        return any(parameter.form is tuple for parameter in self.parameters.values())


VERBS: dict[str, Verb] = {}
FORM_WORDS = {str: "a text", int: "a whole number", Decimal: "a number", bool: "true or false", dict: "a mapping"}


def verb(phrase: str, *, only_looks: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as what `phrase` means."""

    def register(act: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(act)
        named = list(inspect.signature(act).parameters.values())[1:]
        parameters = {each.name.replace("_", " "): _parameter(hints[each.name], each) for each in named}
        VERBS[phrase] = Verb(phrase, act, parameters, only_looks)
        return act

    return register


def _parameter(hint: Any, declared: inspect.Parameter) -> Parameter:
    """The form that an annotation asks for; of an optional one the form that is not None."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    form = str if choices else get_origin(hint) or hint
    return Parameter(form, declared.default is inspect.Parameter.empty, choices)


def near(word: str, known: Collection[str]) -> str:
    """A hint at what was meant by a word that is not known."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]!r}?" if found else f"known: {', '.join(sorted(known))}"


def bind(chosen: Verb, argument: Any) -> tuple[dict[str, Any], list[str]]:
    """What a step gives to its verb by parameter name, and what is wrong with it."""
    parameters = chosen.parameters
    first = next(iter(parameters), None)
    if argument is None:
        given: dict[str, Any] = {}
    elif first is None:
        return {}, [f"{chosen.phrase!r} takes nothing, it was given {argument!r}"]
    elif not isinstance(argument, dict) or (len(parameters) == 1 and parameters[first].form is dict):
        given = {first: argument}
    else:
        given = argument
    faults = [f"{chosen.phrase!r} takes no {name!r}; {near(name, parameters)}" for name in given.keys() - parameters]
    faults += [f"{chosen.phrase!r} needs {n!r}" for n, p in parameters.items() if p.required and n not in given]
    for name in given.keys() & parameters.keys():
        faults += _misfits(name, given[name], parameters[name])
    return given, faults


def _misfits(name: str, value: Any, parameter: Parameter) -> Iterator[str]:
    if parameter.choices and value not in parameter.choices:
        yield f"{name} is {value!r}; choose one of {', '.join(parameter.choices)}"
    elif parameter.form is Decimal and (isinstance(value, bool) or not isinstance(value, int | Decimal)):
        yield f"{name} is {value!r}, not {FORM_WORDS[Decimal]}"
    elif parameter.form in (str, int, bool, dict) and type(value) is not parameter.form:
        yield f"{name} is {value!r}, not {FORM_WORDS[parameter.form]}"
    elif parameter.form in (list, tuple) and not isinstance(value, list | tuple):
        yield f"{name} is {value!r}, not a list"
