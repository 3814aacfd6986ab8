"""Untrusted files, read within bounds: a small file cannot fill the memory by the sizes that it announces.

A registered Mixer, statistics or a settings file may come from anywhere. Each function here compares the sizes that a
file announces with a limit before anything is inflated, allocated or repeated, and raises errors that callers turn into
one line with the file's name.
"""

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml

from fxnorm.errors import printable

_LARGEST_TEXT = 2**24  # bytes
_MOST_NODES = 10_000  # of a YAML document, aliases counted as what they stand for
_DEEPEST = 100
_LARGEST_NUMBER = 16  # bytes
_LARGEST_HEADER = 2**16  # bytes before an array's numbers
_NUMBERS = "biuf"  # NumPy's kinds
_SHOWN = 200  # characters
_END_OF_ZIP, _END_OF_LARGE_ZIP = b"PK\x05\x06", b"PK\x06\x07"
_END_SIZE, _LONGEST_COMMENT, _LARGE_END_SIZE = 22, 2**16, 20
_DIRECTORY_SIZE = slice(12, 16)
_LARGEST_ENTRY = 1_000  # bytes in a zip's directory


def read_json(path: Path, most_bytes: int = _LARGEST_TEXT) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        most_bytes: the largest that is read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON in UTF-8, larger than that, or nested deeper than Python goes.
    """
    try:
        return json.loads(_text(path, most_bytes))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_packed_json(path: Path, most_bytes: int) -> Any:
    """What a JSON file holds that is packed with gzip.

    Args:
        path: the file.
        most_bytes: the most that is unpacked.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or larger than that.
    """
    try:
        with gzip.open(path) as packed:
            text = packed.read(most_bytes + 1)
    except (EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(text) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_yaml(path: Path, most_values: int = _MOST_NODES) -> Any:
    """What a YAML file holds.

    Args:
        path: the file.
        most_values: as :func:`load_yaml`.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not in UTF-8.
        yaml.YAMLError: as :func:`load_yaml`, or it is larger than 16 MiB.
    """
    try:
        return load_yaml(_text(path), most_values)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from error


def load_yaml(text: str, most_values: int = _MOST_NODES) -> Any:
    """The content of a YAML text: plain values, lists and dictionaries.

    Args:
        text: the YAML.
        most_values: how many values it may stand for. Each line may double, by aliases, what the line before stands
            for.

    Raises:
        yaml.YAMLError: it is no YAML, holds a value that cannot be (a 13th month), is nested deeper than Python goes,
            or stands for more values.
    """
    if _depth(text) > _DEEPEST:  # the time that PyYAML takes grows with the cube of it
        raise yaml.YAMLError("nested too deeply")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _nodes(node, {}) > most_values:
            raise yaml.YAMLError(f"expected at most {most_values} values, counting aliases as what they stand for")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply, or a value within itself") from None
    except (ValueError, OverflowError) as error:
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _depth(text: str) -> int:
    """How many brackets are open at most."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(0, depth + (1 if bracket in "[{" else -1))
        deepest = max(deepest, depth)
    return deepest


def _nodes(node: yaml.Node, counted: dict[int, int]) -> int:
    """How many values ``node`` stands for; an endless recursion if it is within itself."""
    if id(node) not in counted:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        counted[id(node)] = 1 + sum(_nodes(child, counted) for child in children)
    return counted[id(node)]


def _text(path: Path, most_bytes: int = _LARGEST_TEXT) -> str:
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"expected at most {most_bytes} bytes, found more")
    return content.decode("utf-8")


def read_npz(path: str | Path, most: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The arrays of numbers in an npz.

    Args:
        path: the file.
        most: by the names that there may be, how many numbers each may hold.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or holds other names, more numbers, something else than numbers, a name twice,
            or what is encrypted.
    """
    with open(path, "rb") as file:
        refuse_large_directory(file, _LARGEST_ENTRY * len(most))
        try:
            with zipfile.ZipFile(file) as archive:
                names = [_array_name(member) for member in archive.infolist()]
                if unknown := sorted({name for name in names if name not in most}):
                    raise ValueError(f"unknown {printable(', '.join(unknown), _SHOWN)}")
                if twice := sorted({name for name in names if names.count(name) > 1}):
                    raise ValueError(f"{twice[0]} is there twice")
                return {
                    name: _read_array(archive, member, name, most[name])
                    for name, member in zip(names, archive.infolist(), strict=True)
                }
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(str(error)) from error


def refuse_large_directory(file: BinaryIO, most: int) -> None:
    """Refuse a zip whose list of members, which is read as a whole, takes more than ``most`` bytes.

    Raises:
        ValueError: it does, or this is no zip.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_SIZE - _LONGEST_COMMENT - _LARGE_END_SIZE))
    tail = file.read()
    end = tail.rfind(_END_OF_ZIP)
    if end < 0:
        raise ValueError("no zip archive")
    large = tail[max(0, end - _LARGE_END_SIZE) : end].startswith(_END_OF_LARGE_ZIP)
    if large or int.from_bytes(tail[end:][_DIRECTORY_SIZE], "little") > most:
        raise ValueError("too many members")
    file.seek(0)


def _array_name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, most: int) -> np.ndarray:
    """One array, of which the sizes in the archive and in its own header are looked at before it is inflated."""
    if member.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    if member.file_size > _LARGEST_HEADER + _LARGEST_NUMBER * most:
        raise ValueError(f"{name}: expected at most {most} numbers, found {member.file_size} bytes")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name}: npy format {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    numbers = 1
    for length in shape:
        numbers *= length
    if dtype.kind not in _NUMBERS or dtype.itemsize > _LARGEST_NUMBER or not 0 <= numbers <= most:
        raise ValueError(f"{name}: expected at most {most} numbers, found {printable(str(dtype))} of shape {shape}")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def refuse_inflating(path: Path) -> None:
    """Refuse a zip of tensors that holds more than its own size; PyTorch packs without compression.

    Raises:
        OSError: it cannot be read.
        ValueError: its members are compressed, or together larger than the file.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    inflated = sum(member.file_size for member in members)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members) or inflated > path.stat().st_size:
        raise ValueError("compressed, or with parts that overlap: more than its own size")
