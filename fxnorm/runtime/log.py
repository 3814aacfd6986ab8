"""How the ``fxnorm`` command shows the library's warnings: each as one line, once."""

import logging
import sys

from fxnorm.errors import printable

_MOST_SHOWN = 1_000  # characters


class _Lines(logging.Handler):
    """Writes each message to stderr as one line, and repeated ones only once.

    Args:
        beside_a_bar: another process draws a progress bar on the same terminal; begin at the start of its line.
    """

    def __init__(self, beside_a_bar: bool) -> None:
        super().__init__(logging.WARNING)
        self._start = "\r" if beside_a_bar else ""
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        level = record.levelname.lower()
        line = f"{level}: {printable(record.getMessage(), _MOST_SHOWN)}"
        if line not in self._shown:
            self._shown.add(line)
            tqdm.write(self._start + line, file=sys.stderr)


def show_warnings(beside_a_bar: bool = False) -> None:
    """From now on, show the library's warnings.

    Args:
        beside_a_bar: this is a worker process, beside whose output another one draws a progress bar.
    """
    logger = logging.getLogger("fxnorm")
    if not is_shown():
        logger.addHandler(_Lines(beside_a_bar))
        logger.propagate = False  # or other handlers, such as those of the root logger, would write them a second time


def hide_warnings() -> None:
    """Undo :func:`show_warnings`."""
    logger = logging.getLogger("fxnorm")
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _Lines)]
    logger.propagate = True


def is_shown() -> bool:
    """Whether warnings are shown (:func:`show_warnings`)."""
    return any(isinstance(handler, _Lines) for handler in logging.getLogger("fxnorm").handlers)
