"""YAML text as plain data that remembers the line each value came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from edgecnn.errors import RecipeError

KeyPath = tuple[str | int, ...]
# A recipe has some kB. Reading takes about a second for each 100 kB of small values.
MOST_CHARACTERS = 100_000
MOST_BYTES = 4 * MOST_CHARACTERS
"""What a file of them has at most."""
# Python's way with a number of n digits takes n² steps, and YAML's 59:59:59 is one as well.
LONGEST_NUMBER = 100


class _Loader(yaml.SafeLoader):
    """SafeLoader with JSON's idea of a scalar: no dates, and 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


@dataclass
class YamlSource:
    """`data` as dicts, lists and scalars; `lines` maps the path of each key or item to its line (from 1).

    `origins` names the option that a value came from, where it is not in the file.
    """

    name: str
    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    seen_nodes: set[int] = field(default_factory=set, repr=False)

    def where(self, path: KeyPath) -> str:
        """ "file:line: key", with the line of the nearest known parent."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.origins:
                return self.origins[path[:depth]]
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        key = ".".join(map(str, path))
        return f"{self.name}{line}: {key}" if key else f"{self.name}{line}"


def parse(text: str, name: str) -> YamlSource:
    """Raises RecipeError, with the line, for a YAML fault, a key written twice, or an alias."""
    if len(text) > MOST_CHARACTERS:
        raise RecipeError(f"a file of more than {MOST_CHARACTERS:,} characters is not read", where=name)
    source = YamlSource(name, None)
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            source.data = _plain(loader, root, (), source, depth=0)
    except RecursionError as fault:
        raise RecipeError("nested too deeply", where=name) from fault
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        detail = ": ".join(part for part in (fault.context, fault.problem) if part)
        raise RecipeError(
            f"not valid YAML: {detail}", where=where, fix="check indentation, colons and quotes on that line"
        ) from fault
    except yaml.YAMLError as fault:
        raise RecipeError(f"not valid YAML: {' '.join(str(fault).split())}", where=name) from fault
    return source


def _plain(loader: _Loader, node: yaml.Node, path: KeyPath, source: YamlSource, depth: int) -> Any:
    line = node.start_mark.line + 1
    source.lines.setdefault(path, line)
    if depth > 20:
        raise RecipeError("nested too deeply", where=source.where(path))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node, f"{source.name}:{line}")
    if id(node) in source.seen_nodes:  # an alias gives the same node again
        raise RecipeError("YAML aliases are not used in recipes", where=source.where(path), fix="write it out")
    source.seen_nodes.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(loader, item, (*path, index), source, depth + 1) for index, item in enumerate(node.value)
        ]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        child = (*path, key)
        if key in found:
            raise RecipeError(
                "the key is written twice", where=f"{source.name}:{key_node.start_mark.line + 1}: {key}"
            )
        source.lines[child] = key_node.start_mark.line + 1
        found[key] = _plain(loader, value_node, child, source, depth + 1)
    return found


def _scalar(loader: _Loader, node: yaml.ScalarNode, where: str) -> str | int | float | bool | None:
    if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
        raise RecipeError(f"{node.value[:40]}... is too long for a number", where=where)
    try:
        value = loader.construct_object(node)
    except (ValueError, KeyError, TypeError, OverflowError) as fault:  # an explicit tag that does not fit
        raise RecipeError(
            f"{node.value[:40]!r} is not a value of its type ({node.tag})", where=where
        ) from fault
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise RecipeError(f"the tag {node.tag} is not used in recipes", where=where)
