"""The page of error messages: what it quotes is what the code says."""

import ast
import re

import pytest

from tests.project import REPOSITORY

PAGE = REPOSITORY / "docs/troubleshooting.md"
CODE = ("fxnorm", "serving", "components", "pipeline")
RUN = 3
"""As many words of a message in a row stand in the code as well; between them are examples of what varies."""


def texts() -> str:
    """All strings of the code, a line each; what an f-string fills in is ``…``."""
    lines = [(REPOSITORY / "Makefile").read_text()]
    for folder in CODE:
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    lines.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                    lines.append("".join(parts))
    return "\n".join(lines)


def quoted() -> list[str]:
    """The messages of the page, but those of other programs."""
    rows = re.findall(r"^\| (.*?) \| .* \|$", PAGE.read_text(), re.MULTILINE)
    ours = [cell for cell in rows if not cell.startswith(("DVC:", "MLflow:", "it says", "---", "`uvicorn"))]
    return [message for cell in ours for message in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def said() -> str:
    return texts()


@pytest.mark.parametrize("message", quoted())
def test_what_the_page_quotes_is_what_the_code_says(message: str, said: str) -> None:
    words = [word for word in message.replace("X:", "X: ").split() if word not in ("X:", "X")]
    length = min(RUN, len(words))
    runs = [" ".join(words[start : start + length]) for start in range(len(words) - length + 1)]
    assert any(run.strip(":;,…'") in said for run in runs)
