"""What a file that is put together while it is read has in common: a size and a position."""

import io
import os


class RandomAccess(io.RawIOBase):
    """A file to read from any position; what is there is for ``readinto`` of the class that derives.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position
