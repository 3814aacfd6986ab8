"""MkDocs hook: tables of settings and pages of commands, made from the code that reads them; drawings within the page.

A line ``<!-- fields: fxnorm.settings:TrainSettings -->`` becomes a table of that model's fields: name, type, default
and meaning. A line ``<!-- drawing: assets/data.svg -->`` becomes that file's content, so that it takes the page's
colours. A line ``<!-- command: fxnorm.cli:main as fxnorm -->`` becomes the help of a click command and all below it.
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_ROOT = Path(__file__).parents[2]
_FIELDS = re.compile(r"^<!-- fields: ([\w.]+):(\w+)(?: prefix=(\S+))?(?: (upper))? -->$", re.MULTILINE)
_DRAWING = re.compile(r"^<!-- drawing: (\S+) -->$", re.MULTILINE)
_COMMAND = re.compile(r"^<!-- command: ([\w.]+):(\w+) as (\w+) -->$", re.MULTILINE)
_DEFAULT = re.compile(r" *\[default: \(?([^\]]*?)\)?\]$")
_ROLE = re.compile(r":\w+:<code>~?")  # as in docstrings, :meth:`mix`
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def on_config(config: Any, **_: Any) -> None:
    """Let the models be imported from the folder that the site is built in."""
    sys.path.insert(0, str(_ROOT))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables and drawings in."""
    markdown = _FIELDS.sub(lambda match: _table(*match.groups()), markdown)
    markdown = _COMMAND.sub(lambda match: _commands(*match.groups()), markdown)
    return _DRAWING.sub(lambda match: _drawing(_ROOT / "docs" / match[1]), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leave out the roles of names in docstrings, which are written for another tool."""
    return _ROLE.sub("<code>", html)


def _commands(module: str, name: str, program: str) -> str:
    command = getattr(importlib.import_module(module), name)
    context = click.Context(command, info_name=program)
    sections = list(_sections(command, context))
    links = [f"| [`{title}`](#{title.replace(' ', '-')}) | {summary} |" for title, summary, _ in sections]
    return "\n".join(["| command | what it does |", "| --- | --- |", *links, "", *(text for *_, text in sections)])


def _sections(command: click.Command, context: click.Context) -> Iterator[tuple[str, str, str]]:
    """Title, summary and text of all commands below one, by name."""
    assert isinstance(command, click.Group)
    for name in sorted(command.commands):
        below = command.commands[name]
        inner = click.Context(below, info_name=name, parent=context)
        if isinstance(below, click.Group):
            yield from _sections(below, inner)
            continue
        paragraphs = inspect.cleandoc(below.help or "").split("\n\n")
        title = inner.command_path.removeprefix(f"{context.find_root().info_name} ")
        usage = " ".join([inner.command_path, *below.collect_usage_pieces(inner)])
        options = [option for option in below.params if isinstance(option, click.Option)]
        records = [record for option in options if (record := option.get_help_record(inner))]
        rows = [f"| `{key}` | {_cell(_DEFAULT.sub(_default_text, text))} |" for key, text in records]
        table = ["| option | meaning |", "| --- | --- |", *rows, ""] if rows else []
        text = [f"## {title}", "", *(f"{_escaped(part)}\n" for part in paragraphs), "```", usage, "```", "", *table]
        yield title, _cell(" ".join(paragraphs[0].split())), "\n".join(text)


def _default_text(match: re.Match[str]) -> str:
    return f"{' ' if match.start() else ''}Default: {match[1]}."


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")


def _escaped(text: str) -> str:
    return re.sub(r"([<*_\[\]])", r"\\\1", text)


def _drawing(path: Path) -> str:
    # within a block that Markdown leaves alone
    return f'<div class="drawing-box">\n{path.read_text(encoding="utf-8").strip()}\n</div>'


def _table(module: str, name: str, prefix: str | None, upper: str | None) -> str:
    model = getattr(importlib.import_module(module), name)
    meanings = _meanings(model)
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for field, info in model.model_fields.items():
        key = f"{prefix or ''}{info.alias or field}"
        meaning = info.description or meanings.get(field, "")
        if not meaning:
            raise ValueError(f"{module}.{name}.{field}: has no meaning to print; write a string under the field")
        cells = (
            f"`{key.upper() if upper else key}`",
            _type(info),
            _default(info, upper is not None),
            _sentence(meaning),
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The string literals that stand under fields, of a model and of those it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base is BaseModel or not issubclass(base, BaseModel):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    found[name] = meaning
    return found


def _sentence(meaning: str) -> str:
    text = " ".join(meaning.split()).replace("``", "`").replace("<", "&lt;")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text[0].upper() + text[1:]


def _type(info: FieldInfo) -> str:
    bounds = [
        f"{sign} {_number(getattr(item, name))}"
        for item in info.metadata
        for name, sign in _BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return " ".join([_written(info.annotation), *([", ".join(bounds)] if bounds else [])])


def _number(value: float) -> str:
    if value >= 2**62:
        return "2⁶³"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _written(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = FieldInfo.from_annotation(annotation)
        return _type(inner)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_written(part) for part in arguments)
    if annotation is type(None):
        return "null"
    if origin is tuple:
        return f"list of {_written(arguments[0])}"
    if origin is dict:
        return f"{_written(arguments[0])} → {_written(arguments[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true, false", Any: "any"}
    return names.get(annotation) or str(annotation.__name__)


def _default(info: FieldInfo, variable: bool) -> str:
    if info.is_required():
        return "see meaning" if variable else "needed"  # what reads the variables fills it in
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
        return "see below"
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:.7g}`"
    if isinstance(value, dict):
        inner = ", ".join(
            f"{key}: {part:g}" if isinstance(part, float) else f"{key}: {part}" for key, part in value.items()
        )
        return f"`{{{inner}}}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else "empty"
