"""Changes of ``params.yaml`` that leave its comments, order and spelling as they are.

PyYAML tells where a value stands in the text; only that stretch is replaced. What comes out is read again and compared
with what it should hold.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fxnorm.errors import SettingsError, first_line
from fxnorm.io import bounded
from fxnorm.search.space import placed
from fxnorm.settings import Settings


@dataclass(frozen=True)
class Base:
    """The settings that are not varied, and where they are from.

    Attributes:
        settings: all of them.
        name: of the settings file, as a difference names it.
        text: its content; empty if there is none.
        overrides: dotted names of ``--set`` -> values.
    """

    settings: Settings
    name: str = "params.yaml"
    text: str = ""
    overrides: tuple[tuple[str, Any], ...] = ()


def edited(text: str, values: Mapping[str, Any], source: str = "params.yaml") -> str:
    """The text of a settings file with other values at dotted names.

    A value of a list that the file does not have cannot be set alone: name the list.

    Args:
        text: YAML of sections with keys; may be empty.
        values: dotted name -> value.
        source: stands in the errors.

    Raises:
        SettingsError: the text is no YAML of sections, or its values are shared by aliases so that one cannot change
            alone.
    """
    try:
        expected = placed(bounded.load_yaml(text) or {}, values)
        for name, value in values.items():
            text = _with(text, name.split("."), value)
        found = bounded.load_yaml(text) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{source}: not readable as YAML ({first_line(error)})") from error
    if found != expected:
        raise SettingsError(f"{source}: cannot be changed in place (aliases, or keys that occur twice)")
    return text


def content(text: str) -> Any:
    """What the text of a settings file holds."""
    return bounded.load_yaml(text) or {}


def unified_diff(before: str, after: str, name: str) -> str:
    """The difference as ``git apply`` and ``patch -p1`` take it; empty if there is none."""
    old = f"a/{name}" if before else "/dev/null"
    lines = difflib.unified_diff(_lines(before), _lines(after), old, f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    # not splitlines, for which other signs end a line too
    *whole, rest = text.split("\n")
    return [*(f"{line}\n" for line in whole), *([rest] if rest else [])]


def _with(text: str, parts: list[str], value: Any) -> str:
    node = yaml.compose(text, yaml.SafeLoader)
    if node is None:
        return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{_entry(parts, value)}\n"
    for depth, part in enumerate(parts):
        below = _below(node, part)
        if below is None:
            if isinstance(node, yaml.MappingNode):
                return _inserted(text, node, parts[depth:], value)
            return _replaced(text, node, _nested(parts[depth:], value))
        node = below
    return _replaced(text, node, value)


def _below(node: yaml.Node, part: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
        return node.value[int(part)]
    return None


def _replaced(text: str, node: yaml.Node, value: Any) -> str:
    start, end = node.start_mark.index, _end(text, node)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and isinstance(value, list) and value:
        line_break = f"\n{' ' * node.start_mark.column}- "
        return text[:start] + line_break.join(["", *map(flow, value)]).lstrip("\n ") + text[end:]
    before = "" if start == 0 or text[start - 1].isspace() else " "  # an empty value stands right behind its colon
    return text[:start] + before + flow(value) + text[end:]


def _inserted(text: str, node: yaml.MappingNode, parts: list[str], value: Any) -> str:
    if node.flow_style:
        end = node.end_mark.index - 1
        comma = ", " if node.value else ""
        return text[:end].rstrip() + comma + _entry(parts, value) + text[end:]
    column = node.value[0][0].start_mark.column
    line_end = text.find("\n", _end(text, node))
    line_end = len(text) if line_end < 0 else line_end
    carriage = "\r" if text[:line_end].endswith("\r") else ""
    at = line_end - len(carriage)
    return f"{text[:at]}{carriage}\n{' ' * column}{_entry(parts, value)}{text[at:]}"


def _end(text: str, node: yaml.Node) -> int:
    """Where the node's own text ends; PyYAML has blocks end where the next token begins."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        start, end = node.start_mark.index, node.end_mark.index
        return start + len(text[start:end].rstrip())
    return max(_end(text, below) for below in _parts(node))


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    for item in node.value:
        yield from item if isinstance(item, tuple) else (item,)


def _nested(parts: list[str], value: Any) -> Any:
    for part in reversed(parts):
        value = {part: value}
    return value


def _entry(parts: list[str], value: Any) -> str:
    return f"{parts[0]}: {flow(_nested(parts[1:], value))}"


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()
