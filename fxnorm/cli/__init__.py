"""The command ``fxnorm``: reads options and calls the stages and the Mixer."""

from fxnorm.cli.commands import main

__all__ = ["main"]
