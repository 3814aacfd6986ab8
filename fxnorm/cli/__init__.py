"""The command ``fxnorm``: thin over stages and Mixer."""

from fxnorm.cli.commands import main

__all__ = ["main"]
