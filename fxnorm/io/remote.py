"""Files of an object store (or of a folder that machines share) of which any stretch is read by itself.

A stretch comes as ranged requests, several at once, through a cache on a disk of this machine. A store that is slow,
fails or is silent is asked again, with growing pauses and for some minutes; a file that is another than was stored is
an error at once.

fsspec's and smart_open's files read ranges too, and one after the other: of a file of a distant store, a crop takes
several of their requests where it takes one here.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fxnorm.errors import DatasetError, FxnormError, StoreError, system_reason
from fxnorm.io import object_store
from fxnorm.io.blocks import BlockCache
from fxnorm.io.random_access import RandomAccess

Result = TypeVar("Result")

BLOCK_BYTES = 2**19
"""What is kept and removed at once. Smaller ones are more files, of larger ones more is read that no crop needs."""
HEAD_BYTES = 2**14
"""The first block of a file: its header, which is read oftener than any other part."""

_MOST_HEADS = 2048  # 32 MB

PATIENCE_SECONDS = 600.0
"""How long a store is asked for a stretch before that is an error."""
THREADS = 16
"""Requests of one process at a time."""

_QUIET_SECONDS = 5.0  # of a request without an answer that nothing is said of
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds
_WHOLE = 16 * BLOCK_BYTES  # bytes of a request for a whole file

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file as it was stored.

    Attributes:
        address: ``s3://BUCKET/KEY``, or an absolute path.
        size: bytes.
        sha256: of its content, in hexadecimal digits.
        tag: the store's mark of the content (ETag); empty for a path.
    """

    address: str
    size: int
    sha256: str
    tag: str


class RangedFile(RandomAccess):
    """A remote file to be read, as far as it is read.

    A decoder that calls it from C cannot pass an error on; so the first one is kept in ``error``, and the file ends
    there.

    Args:
        file: which.
        cache: of its blocks, if there is one.
    """

    def __init__(self, file: RemoteFile, cache: BlockCache | None) -> None:
        super().__init__(file.size)
        self.error: FxnormError | None = None
        self._file, self._cache = file, cache
        self._blocks: dict[int, bytes] = {}
        self._current, self._current_start = b"", 0

    def expect(self, start: int, stop: int) -> None:
        """Read these bytes now, with as few requests as there are gaps in the cache."""
        start, stop = max(0, start), min(stop, self._file.size)
        if start < stop:
            self._load(_number_of(start), _number_of(stop - 1))

    def stretch(self, start: int, stop: int) -> bytes:
        """These bytes, fewer at the end of the file.

        Raises:
            FxnormError: the store does not give them.
        """
        self.expect(start, stop)
        start, stop = max(0, start), min(stop, self._file.size)
        parts = []
        while start < stop:
            number = _number_of(start)
            offset = start - _start_of(number)
            parts.append(memoryview(self._blocks[number])[offset : offset + stop - start])
            start += len(parts[-1])
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        # a decoder asks for some KB at a time: mostly they lie in the block that it read last
        offset = self._position - self._current_start
        part = self._current[offset : offset + len(buffer)] if offset >= 0 else b""
        if part and len(part) == len(buffer):
            buffer[:] = part
            self._position += len(part)
            return len(part)
        return self._read_across(memoryview(buffer).cast("B"))

    def _read_across(self, view: memoryview) -> int:
        length = min(len(view), self._file.size - self._position)
        done = 0
        try:
            while done < length:
                number = _number_of(self._position)
                if number not in self._blocks:
                    self._load(number, number)
                block, offset = self._blocks[number], self._position - _start_of(number)
                self._current, self._current_start = block, _start_of(number)
                part = block[offset : offset + length - done]
                view[done : done + len(part)] = part
                done += len(part)
                self._position += len(part)
        except FxnormError as error:
            self.error = self.error or error
        return done

    def raise_error(self) -> None:
        """Raise what a decoder could not pass on.

        Raises:
            FxnormError: the store did not give a part of the file.
        """
        if self.error is not None:
            raise self.error

    def _load(self, first: int, last: int) -> None:
        wanted = [number for number in range(first, last + 1) if number not in self._blocks]
        names = [self._name_of(number) for number in wanted] if self._cache is not None else []
        with _loading.alone(names):
            self._load_missing([number for number in wanted if not self._is_cached(number)])

    def _load_missing(self, missing: list[int]) -> None:
        for run in _runs(missing):
            start, stop = _start_of(run[0]), min(_start_of(run[-1] + 1), self._file.size)
            content = fetch(self._file, start, stop - start, self._cache)
            for number in run:
                if number in self._blocks:  # between two that were missing
                    continue
                block = content[_start_of(number) - start : _start_of(number + 1) - start]
                self._blocks[number] = block
                if number == 0:
                    _heads.put(self._file.sha256, block)
                if self._cache is not None:
                    self._cache.put(self._name_of(number), block)

    def _is_cached(self, number: int) -> bool:
        block = _heads.get(self._file.sha256) if number == 0 else None
        if block is None and self._cache is not None:
            length = min(_start_of(number + 1), self._file.size) - _start_of(number)
            block = self._cache.get(self._name_of(number), length)
        if block is not None:
            self._blocks[number] = block
        return block is not None

    def _name_of(self, number: int) -> str:
        return f"{self._file.sha256} {number}"  # by the content, wherever that lies


class _Heads:
    """Headers of files that this process read lately, by the files' hashes: each crop begins with five of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: dict[str, bytes] = {}

    def get(self, sha256: str) -> bytes | None:
        """The first block of a file, if it is here."""
        return self._blocks.get(sha256)

    def put(self, sha256: str, block: bytes) -> None:
        """Keep it, in place of the oldest."""
        with self._lock:
            self._blocks[sha256] = block
            if len(self._blocks) > _MOST_HEADS:
                del self._blocks[next(iter(self._blocks))]


_heads = _Heads()


class _Loading:
    """What threads load into the cache now: others that want the same wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._names: set[str] = set()

    @contextlib.contextmanager
    def alone(self, names: list[str]) -> Iterator[None]:
        """Within the block, no other thread of this process loads one of these blocks."""
        with self._changed:
            self._changed.wait_for(lambda: self._names.isdisjoint(names))
            self._names.update(names)
        try:
            yield
        finally:
            with self._changed:
                self._names.difference_update(names)
                self._changed.notify_all()


_loading = _Loading()


def read(file: RemoteFile, cache: BlockCache | None) -> bytes:
    """All of a file, which is compared with its hash.

    Raises:
        DatasetError: it is another than was stored, or not there.
        StoreError: the store does not answer.
    """
    ranged, parts = RangedFile(file, cache), []
    for start in range(0, file.size, _WHOLE):
        parts.append(ranged.stretch(start, start + _WHOLE))
        ranged._blocks.clear()
    content = b"".join(parts)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DatasetError(f"{file.address}: is damaged: it is not what was stored; publish its song again")
    return content


def fetch(file: RemoteFile, start: int, length: int, cache: BlockCache | None = None) -> bytes:
    """A stretch of a file from its store, as soon as that gives it.

    Args:
        file: which.
        start: of the stretch, in bytes.
        length: likewise.
        cache: in whose folder processes see that another one has said that the store does not answer.

    Raises:
        DatasetError: the file is another than was stored, or not there.
        StoreError: the store does not give it for :data:`PATIENCE_SECONDS`, or refuses.
    """
    began, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            content = _stretch(file, start, length)
        except StoreError as error:
            waited = time.monotonic() - began
            if error.refused:
                raise
            if waited >= PATIENCE_SECONDS:
                raise StoreError(f"{error}; asked for {waited / 60:.0f} minutes") from error
            if waited >= _QUIET_SECONDS:
                _outage.begin(cache, error)
            time.sleep(pause * random.uniform(0.5, 1))  # readers that failed together do not come back together
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            _outage.end(file.address)
            return content


def _stretch(file: RemoteFile, start: int, length: int) -> bytes:
    if object_store.is_address(file.address):
        return object_store.read_range(_client(), file.address, start, length, file.size, file.tag)
    try:
        with open(file.address, "rb") as local:
            size = os.fstat(local.fileno()).st_size
            content = os.pread(local.fileno(), length, start)
    except FileNotFoundError as error:
        raise DatasetError(f"{file.address}: is not there any more; publish its song again") from error
    except OSError as error:
        raise StoreError(f"{file.address}: cannot be read ({system_reason(error)})") from error
    if size != file.size:
        raise DatasetError(f"{file.address}: was changed ({size} bytes, not {file.size}); publish its song again")
    if len(content) != length:
        raise StoreError(f"{file.address}: cannot be read ({len(content)} of {length} bytes)")
    return content


_clients = threading.Lock()
_made: dict[int, Any] = {}


def _client() -> Any:
    """This process's, for all its threads: making one takes a tenth of a second."""
    with _clients:
        if os.getpid() not in _made:
            _made[os.getpid()] = object_store.ranging_client(THREADS)
        return _made[os.getpid()]


class _Outage:
    """Says once that a store does not answer and once that it does again, for all threads and processes together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._said: int | None = None

    def begin(self, cache: BlockCache | None, error: StoreError) -> None:
        with self._lock:
            if self._since is not None:
                return
            self._since = time.monotonic()
            descriptor = -1
            if cache is not None:
                with contextlib.suppress(OSError):
                    descriptor = os.open(cache.folder / "outage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:  # another process has said it
                        os.close(descriptor)
                        return
            self._said = descriptor
        _log.warning(
            "%s; it is asked again for up to %d minutes, and the work waits where it needs the songs",
            error,
            PATIENCE_SECONDS / 60,
        )

    def end(self, address: str) -> None:
        if self._since is None:
            return
        with self._lock:
            since, said = self._since, self._said
            self._since = self._said = None
        if said is not None and since is not None:
            if said >= 0:
                os.close(said)
            _log.warning("%s: answers again after %.0f s", address, time.monotonic() - since)


_outage = _Outage()


class Threads(Generic[Result]):
    """Threads for work that waits. They end with their process, whatever they wait for then; those of
    concurrent.futures keep it alive until a silent store has answered.
    """

    def __init__(self, count: int = THREADS) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Result], Callable[[], Result]]] = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """The result of ``work`` when it is done."""
        future: Future[Result] = Future()
        self._waiting.put((future, work))
        return future

    def _work(self) -> None:
        while True:
            future, work = self._waiting.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)


def _number_of(position: int) -> int:
    return 0 if position < HEAD_BYTES else 1 + (position - HEAD_BYTES) // BLOCK_BYTES


def _start_of(number: int) -> int:
    return 0 if number == 0 else HEAD_BYTES + (number - 1) * BLOCK_BYTES


def _runs(numbers: list[int]) -> Iterator[range]:
    """Numbers that follow each other, together; also over a gap of one, since a block comes sooner than an answer."""
    run = range(0)
    for number in numbers:
        if run and number > run.stop + 1:
            yield run
            run = range(0)
        run = range(run.start if run else number, number + 1)
    if run:
        yield run
