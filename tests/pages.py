"""The project's pages as a reader takes them: their blocks of commands, and the commands that stand in a text."""

import argparse
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import click

from tests.project import REPOSITORY

PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        REPOSITORY / "deploy/README.md",
        *(REPOSITORY / "docs").rglob("*.md"),
    )
    if path.is_file()
)

REASONS = (
    "minutes",
    "hours",
    "a cluster",
    "a container engine",
    "a GPU",
    "root",
    "another machine",
    "another data set",
    "a free port",
    "another's files",
)
"""What a block needs that a test does not have: ``<!-- not run: REASON -->`` stands before it, maybe with details after
a colon."""

_FENCE = re.compile(r"^ *(```+)(\w*)")
_NOT_RUN = re.compile(r"^ *<!-- not run: (.+) -->$")
_INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?")
_ENDS = {";", "&", "&&", "|", "||", "(", ")"}
_REDIRECTIONS = {"<", ">", ">>", ">&", "&>", "<<", "<<<"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None
    """The reason, if it cannot run in a test."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found: list[Block] = []
    lines = iter(enumerate((REPOSITORY / page).read_text(encoding="utf-8").splitlines(), 1))
    before = ""
    for number, line in lines:
        if fence := _FENCE.match(line):
            body = _until(fence[1], (text for _, text in lines))
            reason = _NOT_RUN.match(before)
            found.append(Block(page, number, fence[2], body, reason[1] if reason else None))
        before = line if line.strip() else before
    return found


def _until(end: str, lines: Iterator[str]) -> str:
    """The lines before the one that is ``end``; all of these are taken from ``lines``."""
    return "".join(f"{line}\n" for line in itertools.takewhile(lambda line: line.strip() != end, lines))


def inline_code(page: str) -> Iterator[str]:
    """What stands between backticks in a page's text."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    yield from (found[1] for found in _INLINE_CODE.finditer(text))


def commands(script: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell script, without redirections and variables before it."""
    lines = iter(script.replace("\\\n", " ").splitlines())
    for line in lines:
        if heredoc := _HEREDOC.search(line):
            _until(heredoc[1], lines)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        skips = False
        for token in [*lexer, ";"]:
            if token in _ENDS:
                named = list(itertools.dropwhile(lambda word: re.match(r"\w+=", word), words))
                if named:
                    yield named
                words = []
            elif token in _REDIRECTIONS:
                skips = True
            elif skips:
                skips = False
            else:
                words.append(token)


def refusal(group: click.Group, words: list[str]) -> str | None:
    """What is wrong with the names of subcommands and options in ``words``, such as ``["train", "--params", …]``.

    Names in capitals stand for any: ``COMMAND --help``.
    """
    command: click.Command = group
    rest = list(words)
    while isinstance(command, click.Group) and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        name = rest.pop(0)
        found = command.get_command(click.Context(command), name)
        if found is None:
            return f"there is no {command.name} {name}"
        command = found
    known = {"-h", "--help", "--version"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    for word in rest:
        option = re.match(r"--[a-z][a-z-]*", word)
        if option and option[0] not in known and not (isinstance(command, click.Group) and rest[0].isupper()):
            return f"{command.name} has no {option[0]}"
    return None


def refusal_by_parser(parser: argparse.ArgumentParser, words: list[str]) -> str | None:
    """The same for a command that argparse reads."""
    for word in words:
        option = re.match(r"--[a-z][a-z-]*", word)
        if option and option[0] not in parser._option_string_actions:
            return f"{parser.prog} has no {option[0]}"
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if groups and not word.startswith("-"):
            if word not in groups[0].choices:
                return f"there is no {parser.prog} {word}"
            parser = groups[0].choices[word]
    return None
