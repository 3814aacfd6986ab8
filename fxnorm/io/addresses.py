"""Addresses of what earlier runs left, in a store or at MLflow; only their form is known here, and nothing is asked."""

import re

from fxnorm.errors import SettingsError, printable
from fxnorm.io import object_store

MODEL_PREFIX, RUN_PREFIX = "models:/", "runs:/"

_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"[^/@]+(?:/[0-9]+|@[^/@]+)")
_SHOWN = 200  # characters


def is_address(name: str) -> bool:
    """Whether something lies in a store or at MLflow, and not in a file or folder of this machine."""
    return object_store.is_address(name) or name.startswith((MODEL_PREFIX, RUN_PREFIX))


def check(name: str) -> None:
    """Refuse what can be no address.

    Raises:
        SettingsError: it is none of ``s3://BUCKET/KEY``, ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` and
            ``runs:/RUN_ID``.
    """
    shown = printable(name, _SHOWN)
    if name.startswith(MODEL_PREFIX):
        if not _MODEL.fullmatch(name.removeprefix(MODEL_PREFIX)):
            raise SettingsError(f"{shown}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    elif name.startswith(RUN_PREFIX):
        if not _RUN.fullmatch(name.removeprefix(RUN_PREFIX)):
            raise SettingsError(f"{shown}: expected runs:/RUN_ID, 32 digits from 0 to f")
    else:
        object_store.split(name)
