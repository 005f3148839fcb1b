"""Decode plain data into msgspec records and find every mistake, not only the first.

msgspec itself stops at the first wrong field. `decode` lets msgspec try (that is fast, and right data needs no more)
and walks the data only when msgspec refused it, so that an operator gets the whole list in one go, each with the path
as it was written: `ports[3].fixed_ips[0].ip_address`.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, NewType, TypeVar, Union, get_args, get_origin

import msgspec

from dataplane.errors import Mistake

T = TypeVar("T")

_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "bytes": "bytes",
    "date": "a date",
    "datetime": "a date",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "null": "null",
    "object": "a mapping",
    "str": "text",
}
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`")
_WHERE = re.compile(r" - at `.*`$")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def decode(type_: type[T], data: object, path: str = "") -> tuple[T | None, list[Mistake]]:
    """Convert plain data (of YAML, JSON or TOML) to `type_`, which is a msgspec Struct or any type msgspec knows.

    Gives the value and no mistakes, or None and at least one mistake. Unknown keys are mistakes for structs with
    `forbid_unknown_fields`. `path` is put before every path. Never raises for wrong data.
    """
    try:
        return msgspec.convert(data, type_), []
    except msgspec.ValidationError as error:
        mistakes = list(_walk(type_, data, path))
        return None, mistakes or [Mistake(path, _reason(error, data))]
    except RecursionError:
        return None, [Mistake(path, "is nested too deeply")]


def join(path: str, key: object) -> str:
    """The path of `key` inside the mapping at `path`."""
    if isinstance(key, str) and _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{key!r}]"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The text ` (did you mean "..."?)` when one of the known words is near, or nothing."""
    return _suggestion(word, tuple(known))


@lru_cache(maxsize=256)
def _suggestion(word: str, known: tuple[str, ...]) -> str:
    """Cached: a key that is wrong once is often wrong in ten thousand objects, and comparing texts is slow."""
    near = difflib.get_close_matches(word, known, n=1)
    return f', did you mean "{near[0]}"?' if near else ""


def _walk(type_: Any, data: object, path: str) -> Iterable[Mistake]:
    """Every mistake of `data` against `type_`, in the order of the data."""
    shape = _shape(type_, data)
    if isinstance(data, Mapping) and _is_struct(shape):
        yield from _walk_struct(shape, data, path)
        return
    origin, arguments = get_origin(shape), get_args(shape)
    before = len(arguments)
    if isinstance(data, Mapping) and origin is dict and before:
        for key, value in data.items():
            yield from _leaf(arguments[0], key, join(path, key))
            yield from _walk(arguments[1], value, join(path, key))
        return
    if isinstance(data, list | tuple) and before and _is_series(shape):
        for index, value in enumerate(data):
            yield from _walk(arguments[0], value, f"{path}[{index}]")
        return
    yield from _leaf(type_, data, path)


def _walk_struct(struct: Any, data: Mapping[Any, Any], path: str) -> Iterable[Mistake]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    found = False
    for key, value in data.items():
        if key in fields:
            for mistake in _walk(fields[key].type, value, join(path, key)):
                found = True
                yield mistake
        elif struct.__struct_config__.forbid_unknown_fields:
            found = True
            yield Mistake(join(path, key), f"unknown key{suggestion(str(key), fields)}")
    for name, field in fields.items():
        if field.required and name not in data:
            found = True
            yield Mistake(join(path, name), "is required")
    if not found:  # e.g. a ValueError of __post_init__
        yield from _leaf(struct, data, path)


def _leaf(type_: Any, data: object, path: str) -> Iterable[Mistake]:
    try:
        msgspec.convert(data, type_)
    except msgspec.ValidationError as error:
        yield Mistake(path, _reason(error, data))


def _shape(type_: Any, data: object) -> Any:
    """The type without names and annotations; of a union, the member that `data` can only have meant."""
    while True:
        if isinstance(type_, NewType):
            type_ = type_.__supertype__
        elif get_origin(type_) is Annotated:
            type_ = get_args(type_)[0]
        elif get_origin(type_) in (Union, types.UnionType):
            members = [_shape(member, data) for member in get_args(type_)]
            fitting = [member for member in members if _fits(member, data)]
            return fitting[0] if len(fitting) == 1 else type_
        else:
            return type_


def _fits(shape: Any, data: object) -> bool:
    if isinstance(data, Mapping):
        return _is_struct(shape) or get_origin(shape) is dict
    return isinstance(data, list | tuple) and _is_series(shape)


def _is_struct(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, msgspec.Struct)


def _is_series(shape: Any) -> bool:
    """A list, set or tuple of any length with one element type."""
    origin, arguments = get_origin(shape), get_args(shape)
    return origin in (list, set, frozenset) or (origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis)


def _reason(error: msgspec.ValidationError, data: object) -> str:
    """msgspec's message in the operator's words."""
    text = _WHERE.sub("", str(error))
    match = _EXPECTED.fullmatch(text)
    if match is None:
        return text[:1].lower() + text[1:]
    expected = " or ".join(_WORDS.get(word.strip(), word.strip()) for word in match["expected"].split("|"))
    reason = f"expected {expected}, got {_WORDS.get(match['got'], match['got'])}"
    if "text" in expected and not isinstance(data, list | tuple | Mapping | None):
        # YAML 1.1 reads an unquoted 52:54:00:12:34:56 as a number in base 60, and 2024-01-01 as a date.
        reason += " (put it in quotes)"
    return reason
