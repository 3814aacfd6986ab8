"""A request that is not carried out, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A sentence on one file, or on the session where there is no file's id."""

    text: str
    file: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """As the page reads it."""
        return {"file": self.file, "text": self.text}


class Refused(Exception):  # noqa: N818  no error of ours: an answer
    """What a request is answered with instead.

    Args:
        status: of HTTP, 400 to 599.
        message: one sentence.
        file: the id of the file that it is about.
        problems: where there are several.
        more: further keys of the answer.
    """

    def __init__(
        self, status: int, message: str, file: str | None = None, problems: Sequence[Problem] = (), **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self._content = {"error": message, "file": file} | more
        if problems:
            self._content["problems"] = [problem.as_json() for problem in problems]

    def as_json(self) -> dict[str, Any]:
        """As the page reads it."""
        return self._content
