"""Documents as operators write them: YAML or JSON from a file or standard input, to plain data.

YAML is read by its 1.2 core rules: `52:54:00:12:34:56` is text (YAML 1.1 makes a number to base 60 of it), so are
`yes`, `on` and `2024-01-01`. A key that is written twice in one mapping is a mistake.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NoReturn

from dataplane.errors import DocumentError, Mistake

SCALARS = {
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?(0|[1-9][0-9]*)"),
    "float": re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"),
    "merge": re.compile(r"<<"),
}
"""What unquoted text is not text, by YAML type: the core rules without infinities, octal and hexadecimal numbers."""


def read(name: str) -> Any:
    """Plain data of the file `name`, or of standard input for `-`.

    Raises DocumentError for text that is not YAML or JSON, and OSError.
    """
    if name == "-":
        raw = sys.stdin.buffer.read()
    else:
        with open(name, "rb") as file:
            raw = file.read()
    shown = "standard input" if name == "-" else name
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError([Mistake(shown, f"is not UTF-8 text: {error.reason} at byte {error.start}")]) from None
    return parse(text, shown)


def parse(text: str, name: str = "document") -> Any:
    """Plain data of YAML or JSON text; `name` says in mistakes where it is from."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text, object_pairs_hook=lambda pairs: _mapping(pairs, name), parse_constant=_no_constant)
        except ValueError:
            pass  # flow style of YAML begins in the same way
    return _yaml(text, name)


def _mapping(pairs: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DocumentError([Mistake(name, f"the key {twice!r} is written twice in one mapping")])
    return made


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(constant)


def _yaml(text: str, name: str) -> Any:
    import yaml  # 30 ms that only apply and delete -f pay

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Safe loading with the types of YAML 1.2's core schema."""

        yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - the name is PyYAML's

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[object] = set()
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    continue
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str):
                    raise yaml.constructor.ConstructorError(None, None, "a key is not text", key_node.start_mark)
                if key in seen:
                    problem = f"the key {key!r} is written twice in one mapping"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                seen.add(key)
            self.flatten_mapping(node)  # after the check: a key may stand in the mapping and in what it merges
            made: dict[Any, Any] = super().construct_mapping(node, deep)
            return made

    for tag, rule in SCALARS.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{rule.pattern})$"), None)
    try:
        documents = [document for document in yaml.load_all(text, Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name
        raise DocumentError([Mistake(where, str(error.problem or error.context))]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentError([Mistake(name, " ".join(str(error).split()))]) from None
    if len(documents) > 1:
        raise DocumentError([Mistake(name, "holds more than one document: join them, or apply them one by one")])
    return documents[0] if documents else {}


def as_json(data: Any, name: str = "document") -> bytes:
    """Plain data as JSON; raises DocumentError for what JSON does not have."""
    try:
        return json.dumps(data, allow_nan=False).encode()
    except RecursionError:
        raise DocumentError([Mistake(name, "refers to itself")]) from None
    except (TypeError, ValueError) as error:
        reason = "refers to itself" if "Circular" in str(error) else f"{error}: use text, user_data_base64 for bytes"
        raise DocumentError([Mistake(name, reason)]) from None
