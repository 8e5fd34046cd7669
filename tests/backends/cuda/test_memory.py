"""Blocks, growing buffers, pinned memory and the arena over them: what is taken is given back, once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from autovoice.backends.cuda.arena import Arena, DeviceBuffer
from autovoice.backends.cuda.memory import Block, PinnedBuffer, aligned
from autovoice.backends.cuda.staging import Staging
from autovoice.errors import BuildError
from tests.fakes.cuda import FakeCuda, installed


@pytest.fixture
def arena(cuda: FakeCuda) -> Iterator[Arena]:
    made = Arena(threading.RLock())
    yield made
    made.close()


def test_a_block_is_freed_once(cuda: FakeCuda) -> None:
    block = Block(100, "a test")
    assert cuda.device_bytes == 100
    block.free()
    block.free()
    assert not block.alive
    assert cuda.calls["cudaFree"] == 1


def test_a_block_nobody_refers_to_is_freed(cuda: FakeCuda) -> None:
    block = Block(100, "a test")
    del block
    assert cuda.device_bytes == 0


def test_what_is_held_is_freed_at_the_last_release(cuda: FakeCuda) -> None:
    block = Block(100, "a test")
    block.hold()
    block.hold()
    block.free()
    block.release()
    assert cuda.device_bytes == 100
    block.release()
    assert cuda.device_bytes == 0


def test_a_buffer_grows_by_half_but_not_past_its_most(arena: Arena) -> None:
    buffer = DeviceBuffer(arena, "a test")
    assert buffer.ensure(100, 1000).nbytes == 150
    assert buffer.ensure(150, 1000).nbytes == 150
    assert buffer.ensure(900, 1000).nbytes == 1000
    assert buffer.ensure(2000, 1000).nbytes == 2000
    assert arena.device_bytes == 2000


def test_a_buffer_frees_before_it_takes_more(cuda: FakeCuda, arena: Arena) -> None:
    buffer = DeviceBuffer(arena, "a test")
    buffer.ensure(1000, 1000)
    buffer.ensure(3000, 3000)
    assert cuda.peak == 3000


def test_reserving_less_moves_nothing(arena: Arena) -> None:
    arena.reserve(1000, "a")
    before = arena.activations
    arena.reserve(500, "b")
    assert (arena.activations, arena.generation) == (before, 1)
    arena.reserve(2000, "c")
    assert arena.generation == 2
    assert arena.device_bytes == 2000


def test_nothing_can_be_had_of_a_closed_arena(arena: Arena) -> None:
    arena.close()
    arena.close()
    with pytest.raises(BuildError, match="closed"):
        arena.allocate(1, "a test")


def test_pinned_memory_grows_and_is_freed(cuda: FakeCuda) -> None:
    buffer = PinnedBuffer("a test")
    buffer.ensure(100)
    buffer.ensure(120)
    assert cuda.pinned_bytes == 150
    buffer.ensure(1000)
    assert cuda.pinned_bytes == 1500
    buffer.free()
    buffer.free()


def test_staging_waits_before_it_writes_again(cuda: FakeCuda, arena: Arena) -> None:
    staging, block = Staging(arena, "a test"), arena.allocate(16, "a test")
    first, second = np.arange(4, dtype=np.float32), np.full(4, 7, np.float32)
    staging.upload([(first, block.ptr)])
    seen: list[np.ndarray] = []
    cuda.put(arena.stream.handle, lambda: seen.append(cuda.view(block.ptr, (4,), np.float32).copy()))
    staging.upload([(second, block.ptr)])
    arena.stream.wait()
    np.testing.assert_array_equal(seen[0], first)
    np.testing.assert_array_equal(cuda.read(block.ptr, (4,), np.float32), second)
    staging.close()


def test_staging_takes_strides_and_empties(cuda: FakeCuda, arena: Arena) -> None:
    staging, block = Staging(arena, "a test"), arena.allocate(24, "a test")
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    staging.upload([(np.empty((0, 4), np.float32), block.ptr), (turned, block.ptr)])
    np.testing.assert_array_equal(cuda.read(block.ptr, (3, 2), np.float32), turned)
    staging.close()


def test_the_devices_own_is_current_only_while_needed() -> None:
    with installed(FakeCuda(devices=2)) as cuda:
        cuda.cudaSetDevice(1)
        arena = Arena(threading.RLock())
        cuda.cudaSetDevice(0)
        with arena.active():
            assert cuda.cudaGetDevice()[1] == 1
        assert cuda.cudaGetDevice()[1] == 0
        arena.close()
        assert cuda.leaks == {}


@pytest.mark.parametrize(("size", "up"), [(0, 0), (1, 256), (256, 256), (257, 512)])
def test_aligned(size: int, up: int) -> None:
    assert aligned(size) == up
