"""Batches that readers put into memory which is there once, and the optimizer's step on them."""

import gc
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fxnorm.errors import FxnormError
from fxnorm.training import batches
from fxnorm.training.batches import Batch, Batches, readers_errors
from fxnorm.training.optimizer import ClippedAdam

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SAMPLES = 1_500  # a batch ends within a page
EXAMPLES = 10
LENGTH = 10 * SAMPLES
SHAPES = [(8, SAMPLES), (2, SAMPLES)]


class Noise:
    """The n-th example is always the same; a reader of the last one can be made to end."""

    def __init__(self, ends: bool = False) -> None:
        self.ends = ends

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if self.ends and number == EXAMPLES - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(number)
        return torch.randn(8, SAMPLES, generator=generator), torch.randn(2, SAMPLES, generator=generator)

    def __getitems__(self, numbers: list[int]) -> list[tuple[Tensor, Tensor]]:
        return [self[number] for number in numbers]

    def __len__(self) -> int:
        return EXAMPLES


def of_a_plain_loader(batch_size: int) -> list[list[Tensor]]:
    return list(DataLoader(Noise(), batch_size))  # type: ignore[arg-type]


def same(batch: Batch, expected: list[Tensor]) -> bool:
    return all(map(torch.equal, batch.tensors, expected))


@pytest.mark.parametrize("readers", [0, 1, 3])
def test_batches_are_those_of_a_plain_loader_in_its_order_and_lie_in_the_same_places(readers: int) -> None:
    found = Batches(Noise(), SHAPES, range(EXAMPLES), 4, readers, CPU)
    expected = of_a_plain_loader(4)
    assert [len(stems) for stems, _ in expected] == [4, 4, 2], "the last one is smaller"
    places = set[int]()
    for _ in range(2):
        batch = None
        for number, batch in enumerate(found):
            assert same(batch, expected[number])
            places.add(batch.flat.data_ptr())
        assert batch is not None
        assert number == len(expected) - 1
    assert len(places) == min(batches.slots_of(readers, CPU), len(expected))


def test_slots_are_used_again_and_never_before_they_are_given_back() -> None:
    """Of more batches than there are slots, what was taken stays as it is for as long as it is promised to."""
    expected = of_a_plain_loader(1)
    for device, stay in ((CPU, 1), (CUDA, 2)):
        held = list[Batch]()
        ring = _on(device)
        places = set[int]()
        for number, batch in enumerate(ring):
            held = [*held, batch][-stay:]
            places.add(batch.flat.data_ptr())
            for age, earlier in enumerate(reversed(held)):
                assert same(earlier, expected[number - age])
        assert len(places) == batches.slots_of(1, device) < EXAMPLES


def _on(device: torch.device) -> Batches:
    """As for a device that this machine need not have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fxnorm.training.batches._Ring.pin", lambda _: None)
        return Batches(Noise(), SHAPES, range(EXAMPLES), 1, 1, device)


def test_a_reader_overwrites_nothing_that_is_not_given_back() -> None:
    ring = batches._Ring(2, LENGTH, shared=False)
    parts = [torch.ones(LENGTH)]
    for number in range(2):
        ring.fill(number, parts)
    with pytest.raises(RuntimeError, match="batch 2 would overwrite batch 0, which is not given back"):
        ring.fill(2, parts)
    ring.give_back(1)
    ring.fill(2, parts)


def test_a_reader_that_is_killed_is_one_clear_error_and_no_memory_has_a_name_that_could_stay() -> None:
    named = list[str]()
    said = r"training: a reader of resources.loader_workers was ended \(DataLoader worker .*\d+.*\)"
    with pytest.raises(FxnormError, match=said) as caught, readers_errors():
        for _ in Batches(Noise(ends=True), SHAPES, range(EXAMPLES), 2, 1, CPU):
            named += [path.name for path in Path("/dev/shm").iterdir() if f"torch_{os.getpid()}_" in path.name]
    assert "\n" not in str(caught.value)
    assert not named


class Cudart:
    """What is used of CUDA's runtime."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.pinned = dict[int, int]()

    def cudaHostRegister(self, address: int, size: int, _: int) -> int:  # noqa: N802  CUDA's name
        self.pinned[address] = size
        return self.status

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        del self.pinned[address]
        return 0


def test_the_whole_ring_is_pinned_for_cuda_as_long_as_it_is_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cudart = Cudart(0)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    found = Batches(Noise(), SHAPES, range(EXAMPLES), 4, 0, CUDA)
    places = [(batch.flat.data_ptr(), batch.flat.nbytes) for batch in found]
    ((address, size),) = cudart.pinned.items()
    assert all(address <= place and place + length <= address + size for place, length in places)
    del found
    gc.collect()
    assert not cudart.pinned
    cudart.status = 1
    Batches(Noise(), SHAPES, range(EXAMPLES), 4, 0, CUDA)
    assert "CUDA cannot pin the memory of batches (error 1)" in caplog.text


@pytest.mark.parametrize("gradient_norm", [0.2, 1e3])
def test_a_clipped_step_is_pytorchs_clipping_and_pytorchs_adam_to_the_bit(gradient_norm: float) -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.LSTM(5, 7, 2), nn.LSTM(5, 7, 2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = ClippedAdam(ours.parameters(), 1e-2, gradient_norm)
    reference = torch.optim.Adam(theirs.parameters(), weight_decay=1e-2, amsgrad=True, fused=True)
    for step in range(6):
        if step == 3:  # as a training that goes on
            state = optimizer.state_dict()
            optimizer = ClippedAdam(ours.parameters(), 1e-2, gradient_norm)
            optimizer.load_state_dict(state)
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), gradient_norm)
        reference.step()
        assert torch.equal(optimizer.clipped_step(0.1 / (step + 1)), expected)
        assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
    found, wanted = optimizer.state_dict()["state"], reference.state_dict()["state"]
    assert all(torch.equal(found[weight][name], wanted[weight][name]) for weight in wanted for name in wanted[weight])
