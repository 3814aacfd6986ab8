"""Loops over samples and frames that Numba compiles, at their first call, and caches on disk where that is safe.

Numba's cache files are pickles: files that another user could have written are never read. Where no cache folder can be
written, or a cache file is damaged, the loops are compiled anew, which takes seconds and does not change results.
"""

import functools
import hashlib
import logging
import os
import pickle
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class Kernel(Generic[P, R]):
    """A compiled function, called as the plain one is; other kernels may call it too.

    Args:
        function: what Numba can compile.
        options: of ``numba.njit``.
    """

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        return self.dispatcher(*arguments, **named)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """Numba's own object, which compiles for each combination of types once."""
        import numba

        _numba_knows_kernels()
        dispatcher = numba.njit(**self._options)(self._function)
        if (cache := _cache(self._function)) is not None:
            # as its enable_caching() does, which raises an error where there is no cache folder
            dispatcher._cache = cache
        return dispatcher


def kernel(
    *, nogil: bool = True, fastmath: bool = False, error_model: str = "python"
) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Compile the decorated function.

    Args:
        nogil: let other threads run meanwhile.
        fastmath: let sums be taken in any order.
        error_model: ``numpy`` divides by zero as NumPy does, without a check at each division.
    """
    options = {"nogil": nogil, "fastmath": fastmath, "error_model": error_model}
    return lambda function: Kernel(function, options)


@functools.cache
def _numba_knows_kernels() -> None:
    """A kernel that calls another sees its dispatcher."""
    from numba.extending import typeof_impl

    @typeof_impl.register(Kernel)
    def _(value: "Kernel[Any, Any]", context: Any) -> Any:
        return typeof_impl(value.dispatcher, context)


def _cache(function: Callable[..., Any]) -> Any:
    """Numba's cache of a function, or None where no folder for it can be written."""
    try:
        return _cache_class()(function)
    except (RuntimeError, OSError) as error:  # none of the folders can be written
        _log.info("%s is compiled anew in each process (%s)", function.__qualname__, error)
        return None


@functools.cache
def _cache_class() -> Any:
    from numba.core import caching

    class PrivateLocator(caching.UserWideCacheLocator):
        """A folder of this user's own among the temporary files."""

        def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
            super().__init__(py_func, py_file)
            folder = Path(tempfile.gettempdir()) / f"fxnorm-kernels-{os.geteuid()}"
            self._cache_path = str(folder / self.get_suitable_cache_subpath(py_file))

        def ensure_cache_path(self) -> None:
            os.makedirs(Path(self._cache_path).parent, mode=0o700, exist_ok=True)
            super().ensure_cache_path()

    def ours_alone(locator: Any) -> Any:
        """A locator class of Numba that refuses folders that other users can write to."""

        class Checked(locator):
            def ensure_cache_path(self) -> None:
                super().ensure_cache_path()
                if not is_ours_alone(Path(self.get_cache_path())):
                    raise PermissionError(f"{self.get_cache_path()}: others can write there")

        return Checked

    class Implementation(caching.CompileResultCacheImpl):
        _locator_classes = [  # noqa: RUF012
            caching.UserProvidedCacheLocator,  # NUMBA_CACHE_DIR: whoever sets it decides who can write there
            caching.InTreeCacheLocator,  # users who can write there can change the sources as well
            ours_alone(caching.UserWideCacheLocator),
            ours_alone(PrivateLocator),
        ]

    class CheckedFile(caching.IndexDataCacheFile):
        """With a hash of the content: machine code that is damaged would end the process."""

        def _save_data(self, name: str, data: Any) -> None:
            content = self._dump(data)
            super()._save_data(name, (hashlib.sha256(content).digest(), content))

        def _load_data(self, name: str) -> Any:
            digest, content = super()._load_data(name)
            if hashlib.sha256(content).digest() != digest:
                raise ValueError("damaged")
            return pickle.loads(content)

    class Cache(caching.FunctionCache):
        """Any error of a cache file leads to compilation, not to failure."""

        _impl_class = Implementation

        def __init__(self, py_func: Callable[..., Any]) -> None:
            super().__init__(py_func)
            file = self._cache_file
            self._cache_file = CheckedFile(file._cache_path, self._impl.filename_base, file._source_stamp)

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                result = super().load_overload(sig, target_context)
            except Exception as error:
                _log.info("%s: not loaded (%s); compiled anew", self.cache_path, error)
                return None
            # two processes that wrote at once may have given the code of two signatures one file name
            return result if result is not None and tuple(result.signature.args) == tuple(sig) else None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except Exception:
                try:
                    self.flush()  # a damaged index
                    super().save_overload(sig, data)
                except Exception as error:  # a full disk, a folder that became read-only
                    _log.info("%s: not kept compiled (%s)", self.cache_path, error)

    return Cache


def is_ours_alone(folder: Path) -> bool:
    """Whether only this user and root can write to ``folder`` and replace it or a folder above it."""
    for path in [(absolute := folder.absolute()), *absolute.parents]:
        status = path.lstat()
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # above the folder, such as /tmp: only the owner of a file or folder in it can rename or remove it
        is_sticky = path != absolute and status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or not stat.S_ISDIR(status.st_mode) or (shared and not is_sticky):
            return False
    return True
