"""The check that a request's JSON passes before MLflow's server parses it into a data frame.

That server answers some malformed bodies with 500 (JSON too deep, a number of a million digits), repeats others in its
answer, and makes of brackets and commas gigabytes of lists. What passes here is flat, small beside its audio, and has
known columns of text, or of texts by name, alone.
"""

import json
from typing import Any

from fxnorm.constants import STEMS
from fxnorm.errors import AudioError, SettingsError, printable
from fxnorm.io import object_store
from fxnorm.mixing.options import MixOptions
from fxnorm.serving.limits import Limits
from fxnorm.serving.stems import REFERENCE, refuse_both, refuse_malformed
from fxnorm.serving.tracks import TABLE, TRACKS, check_table, check_tracks

_FILES = (*STEMS, REFERENCE)
URI_COLUMNS = {f"{name}_uri": name for name in _FILES}
"""The stem, or the reference, that each column of URIs is for."""

_RECORDS, _SPLIT, _PARAMS = "dataframe_records", "dataframe_split", "params"
_COLUMNS = (*_FILES, *URI_COLUMNS, TRACKS, TABLE)
_MARKS = b"{[,"
_MARKS_PER_ROW = 2 * len(_COLUMNS)
_MARKS_BESIDE = 64  # of columns, index and params
_MARKS_PER_TRACK = 16  # in its name and in the table
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SPACE = b" \t\r\n"  # encoders that follow RFC 2045 break lines


class RefusedError(Exception):
    """A request that is answered without being mixed: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def check_request(body: bytearray, limits: Limits) -> None:
    """Refuse a body that is no request for mixes.

    Raises:
        RefusedError: with status 400.
    """
    try:
        _check(body, limits)
    except (SettingsError, AudioError) as error:
        raise RefusedError(400, str(error)) from error


def _check(body: bytearray, limits: Limits) -> None:
    sessions = min(limits.max_rows, body.count(f'"{TRACKS}"'.encode()))
    most = _MARKS_BESIDE + _MARKS_PER_ROW * limits.max_rows + _MARKS_PER_TRACK * limits.max_tracks * sessions
    if sum(body.count(mark) for mark in _MARKS) > most:
        raise SettingsError(f"expected at most {limits.max_rows} rows of the columns {', '.join(_COLUMNS)}, found more")
    try:
        content = json.loads(body, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise SettingsError("the body is not JSON") from error
    if not isinstance(content, dict) or not {_RECORDS, _SPLIT} & set(content):
        raise SettingsError(f"expected a JSON object with {_RECORDS} or {_SPLIT}")
    if unknown := set(content) - {_PARAMS} - ({_RECORDS} if _RECORDS in content else {_SPLIT}):
        raise SettingsError(f"{_shown(unknown)}: expected {_RECORDS} or {_SPLIT}, and {_PARAMS}")
    rows = _records(content[_RECORDS]) if _RECORDS in content else _split(content[_SPLIT])
    _check_rows(rows, limits)
    params = content.get(_PARAMS)
    if params is not None and not isinstance(params, dict):
        raise SettingsError(f"{_PARAMS}: expected an object of options by name")
    MixOptions.of(params or {})


def _records(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise SettingsError(f"{_RECORDS}: expected a list of objects, one a song")
    return content


def _split(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, dict) or not {"columns", "data"} <= set(content) <= {"columns", "data", "index"}:
        raise SettingsError(f"{_SPLIT}: expected an object with columns and data")
    columns, data = content["columns"], content["data"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise SettingsError(f"{_SPLIT}.columns: expected a list of names")
    if len(set(columns)) < len(columns):
        raise SettingsError(f"{_SPLIT}.columns: a name is there twice")
    if not isinstance(data, list) or not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        raise SettingsError(f"{_SPLIT}.data: expected a list of rows, each with a value for every column")
    index = content.get("index")
    if index is not None and (
        not isinstance(index, list) or len(index) != len(data) or not all(isinstance(name, int | str) for name in index)
    ):
        raise SettingsError(f"{_SPLIT}.index: expected a name for every row")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _check_rows(rows: list[dict[str, Any]], limits: Limits) -> None:
    if not 1 <= len(rows) <= limits.max_rows:
        raise SettingsError(f"expected at least one row, and at most {limits.max_rows}, found {len(rows)}")
    for number, row in enumerate(rows, 1):
        if unknown := set(row) - set(_COLUMNS):
            raise SettingsError(f"{_shown(unknown)}: unknown columns, expected some of {', '.join(_COLUMNS)}")
        if set(row) != set(rows[0]):
            raise SettingsError(f"row {number}: other columns than row 1; leave those without a stem empty")
        if row.get(TRACKS):
            refuse_both(row)
        _check_tracks(row, limits)
        for name, value in row.items():
            if name == TRACKS:
                continue
            if not isinstance(value, str):
                raise SettingsError(f"{name}: expected {_expected(name)} in row {number}, or no such column")
            if name in _FILES and not _is_base64(value):
                raise SettingsError(f"{name}: expected {_expected(name)}, found in row {number} what is no base64")
            if name in URI_COLUMNS and value:
                refuse_malformed(value)


def _check_tracks(row: dict[str, Any], limits: Limits) -> None:
    files = check_tracks(row.get(TRACKS, {}), limits)
    for name, value in files.items():
        if object_store.is_address(value):
            refuse_malformed(value)
        elif not _is_base64(value):
            raise SettingsError(f"{TRACKS}: {printable(name)}: expected {_expected(TRACKS)}, found what is no base64")
    check_table(row.get(TABLE), files)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python's own reading keeps the last of two values under one name."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SettingsError(f"{printable(name)}: is there twice")
        found[name] = value
    return found


def _expected(column: str) -> str:
    if column == TABLE:
        return "a table of the tracks, as JSON"
    return "an s3:// URI" if column in URI_COLUMNS else "the base64 of an audio file"


def _is_base64(text: str) -> bool:
    try:
        letters = text.encode("ascii").translate(None, _SPACE)
    except UnicodeEncodeError:
        return False
    unpadded = letters.rstrip(b"=")
    return len(letters) % 4 == 0 and len(letters) - len(unpadded) <= 2 and not unpadded.translate(None, _BASE64)


def _shown(names: set[str]) -> str:
    """Some of the names."""
    return printable(", ".join(sorted(names)[:3]))
