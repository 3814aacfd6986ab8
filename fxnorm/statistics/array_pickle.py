"""Reading untrusted pickles of NumPy data without executing anything: arrays, numbers and plain containers only.

A pickle names functions to call. Here every name is refused except those by which arrays come back, and these are
replaced by functions that can do nothing else. No more memory is allocated than the file has data for.
"""

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fxnorm.errors import ModelError

_LARGEST = 2**28  # bytes; the published averages take 2 MB


class _ForbiddenError(pickle.UnpicklingError):
    """The pickle names something else than an array."""


def _empty_array(*_: Any) -> np.ndarray:
    """An array for ``__setstate__`` to fill; the shape in the pickle is not allocated before its data is there."""
    return np.empty(0, dtype=np.int8)


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes, as pickles of protocol 2 write them."""
    if encoding != "latin1":
        raise _ForbiddenError(f"encoding {encoding}")
    return text.encode("latin1")


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    if dtype.hasobject:
        raise _ForbiddenError("a scalar object")
    return np.frombuffer(data, dtype=dtype, count=1)[0]


def _array_from_buffer(buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """An array, as pickles of protocol 5 write them."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): "ndarray",  # only ever an argument of _reconstruct
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
}
for _core in ("numpy.core", "numpy._core"):  # the older and the newer name
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _empty_array
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _array_from_buffer


# Python's own implementation: that in C allocates a memo of any size that an opcode (LONG_BINPUT) names
class _ArrayUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _ForbiddenError(f"{module}.{name}") from None


def read_array_pickle(path: str | Path) -> dict[Any, Any]:
    """The dictionary in a ``.npy`` that holds one, or in a bare pickle.

    Raises:
        ModelError: the file is missing or damaged, holds no dictionary, or names anything but arrays and containers.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > _LARGEST:
                raise ModelError(f"{path}: expected at most {_LARGEST} bytes, found more")
            stored = io.BytesIO(file.read())
        _skip_npy_header(stored)
        content = _ArrayUnpickler(stored).load()
    except ModelError:
        raise
    except _ForbiddenError as error:
        raise ModelError(f"{path}: refused: it asks for {error}, but only arrays are admitted") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(f"{path}: not a pickle of arrays ({type(error).__name__}: {error})") from error
    if isinstance(content, np.ndarray) and content.shape == () and content.dtype.hasobject:
        content = content.item()
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a dictionary, found {type(content).__name__}")
    return content


def _skip_npy_header(file: BinaryIO) -> None:
    """Go to where the pickle of an object array starts; to the start again if this is no npy file."""
    try:
        version = np.lib.format.read_magic(file)
    except ValueError:
        file.seek(0)
        return
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read_header(file)
