"""The cache of a store's blocks: what it keeps when it is full, and which blocks are asked for together."""

import random
from pathlib import Path

import numpy as np
import pytest

from fxnorm.io import remote
from fxnorm.io.blocks import BlockCache

BLOCK = 4000  # bytes; with its checksum it takes one unit of the disk


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    random.seed(0)
    made = BlockCache(tmp_path / "cache", 100 * 4096)
    made.prepare()
    return made


def test_a_full_cache_takes_some_of_what_comes_and_is_another_after_a_while(cache: BlockCache) -> None:
    first = {f"first {number}": bytes(BLOCK) for number in range(90)}
    for name, block in first.items():
        cache.put(name, block)
    assert all(cache.get(name, BLOCK) == block for name, block in first.items())
    taken = 0
    for number in range(2000):
        name, block = f"later {number}", number.to_bytes(4, "little") * (BLOCK // 4)
        cache.put(name, block)
        found = cache.get(name, BLOCK)
        assert found in (None, block)
        taken += found is not None
    assert 150 < taken < 500  # an eighth, and those that come just after room was made
    assert sum(cache.get(name, BLOCK) is not None for name in first) < 10


def test_what_is_missing_at_both_sides_of_a_block_comes_with_it_in_one_request(
    cache: BlockCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = np.random.default_rng(0).bytes(8 * remote.BLOCK_BYTES)
    (tmp_path / "file").write_bytes(content)
    file = remote.RemoteFile(str(tmp_path / "file"), len(content), "0" * 64, "")
    cache = BlockCache(tmp_path / "large", 10**9)
    cache.prepare()
    asked: list[tuple[int, int]] = []
    stretch = remote._stretch

    def noted(file: remote.RemoteFile, start: int, length: int) -> bytes:
        asked.append((start, start + length))
        return stretch(file, start, length)

    monkeypatch.setattr(remote, "_stretch", noted)
    size, head = remote.BLOCK_BYTES, remote.HEAD_BYTES
    middle = head + size + 5, head + size + 6
    assert remote.RangedFile(file, cache).stretch(*middle) == content[slice(*middle)]
    whole = head + 5, head + 3 * size - 5
    assert remote.RangedFile(file, cache).stretch(*whole) == content[slice(*whole)]
    assert asked == [(head + size, head + 2 * size), (head, head + 3 * size)]
    # two blocks are more than an answer takes
    last = head + 5 * size
    monkeypatch.setattr(remote, "_heads", remote._Heads())
    assert remote.RangedFile(file, cache).stretch(last, last + 1) == content[last : last + 1]
    assert remote.RangedFile(file, cache).stretch(head, last + size) == content[head : last + size]
    assert asked[2:] == [(last, last + size), (head + 3 * size, last)]
    assert remote.RangedFile(file, cache).stretch(len(content) - 3, len(content) + 9) == content[-3:]
