"""The gradient of a batch: in parts, compiled, in lower precision."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxnorm.errors import FxnormError
from fxnorm.settings import ResourcesSettings, TrainSettings
from fxnorm.training import gradients
from fxnorm.training.distributed import Processes
from fxnorm.training.gradients import Gradients
from fxnorm.training.tasks import Task, new_network, task
from tests.conftest import SIZES

CPU = torch.device("cpu")
SAMPLES = 11_000


def new_task(**settings: Any) -> Task:
    train = TrainSettings.model_validate({"sizes": SIZES, "seed": 3} | settings)
    return task(new_network(train), train)


def batch(size: int = 4) -> tuple[Tensor, Tensor]:
    """Examples of one level each, so that means over them are not means over their logarithms or roots."""
    generator = torch.Generator().manual_seed(0)
    level = torch.tensor([0.02, 0.05, 0.1, 0.3])[:size, None, None]
    stems = level * torch.randn(size, 8, SAMPLES, generator=generator)
    return stems, stems.unflatten(1, (4, 2)).mul(torch.tensor([1.5, 1.0, 0.3, 1.0])[:, None, None]).sum(1)


def of(work: Task, report: Callable[[str], None] = print, **resources: Any) -> Gradients:
    processes = Processes(CPU)
    return Gradients(work, False, ResourcesSettings.model_validate(resources), processes, 10_000, report)


def gradient(module: nn.Module) -> Tensor:
    """All of it, and none of it left."""
    found = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad(set_to_none=True)
    return found


def without_dropout(work: Task) -> Task:
    for part in work.module.modules():
        if isinstance(part, nn.RNNBase):
            part.dropout = 0.0
    return work


PUBLISHED = [{"loss": "a"}, {"loss": "b"}, {"task": "front_end"}]


@pytest.mark.parametrize("settings", [*PUBLISHED, {"loss": "matched"}], ids=str)
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole_one(settings: dict[str, str], parts: int) -> None:
    work = without_dropout(new_task(**settings))
    loss, whole = of(work)(*batch()), gradient(work.module)
    loss_of_parts, in_parts = of(work, accumulation=parts)(*batch()), gradient(work.module)
    assert float(loss_of_parts) == pytest.approx(float(loss), rel=1e-6)
    assert float((in_parts - whole).norm()) < 1e-5 * float(whole.norm())


def test_both_passes_over_a_part_have_the_same_dropout() -> None:
    work = new_task(loss="a")
    stems, mixture = batch()
    torch.manual_seed(1)
    loss, in_parts = of(work, accumulation=2)(stems, mixture), gradient(work.module)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    means = [
        work.loss.means(work.module(part), target)
        for part, target in zip(stems.chunk(2), mixture.chunk(2), strict=True)
    ]
    at_once = work.loss.of_means(torch.stack(means).mean(0))
    assert torch.equal(drawn, torch.rand(1)), "and what is drawn next is what two forward passes leave"
    at_once.backward()
    expected = gradient(work.module)
    assert float(loss) == pytest.approx(float(at_once.detach()), rel=1e-6)
    assert float((in_parts - expected).norm()) < 1e-5 * float(expected.norm())


class Compiler:
    """What takes the place of ``torch.compile``, on a clock of its own: a step takes 5 s, a compiled one ``cost``."""

    def __init__(self, cost: float, factor: float = 1.0) -> None:
        self.cost, self.factor = cost, factor
        self.seconds, self.compiled = 0.0, False

    def compile(self, function: Callable[..., Tensor], *, dynamic: bool) -> Callable[..., Tensor]:
        assert not dynamic

        def compiled(*inputs: Tensor) -> Tensor:
            self.compiled = True
            try:
                return function(*inputs) * self.factor
            finally:
                self.compiled = False

        return compiled

    def step(self, *_: object) -> None:
        self.seconds += self.cost if self.compiled else 5.0


@pytest.mark.parametrize(
    ("cost", "factor", "taken"), [(4.0, 1.0, True), (6.0, 1.0, False), (4.0, 1.01, False), (4.0, float("nan"), False)]
)
def test_a_compiled_step_is_taken_if_it_is_faster_and_agrees(
    cost: float, factor: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, said, work = Compiler(cost, factor), list[str](), new_task()
    monkeypatch.setattr(torch, "compile", compiler.compile)
    monkeypatch.setattr(gradients, "is_worth_compiling", lambda device, steps: True)
    monkeypatch.setattr(gradients, "time", SimpleNamespace(perf_counter=lambda: compiler.seconds))
    torch.manual_seed(1)
    of(work, compile=False)(*batch())
    expected = gradient(work.module)
    ours, was_compiled = of(work, said.append, compile="auto"), list[bool]()
    handle = work.module.register_forward_hook(compiler.step)
    torch.manual_seed(1)
    work.module.register_forward_hook(lambda *_: was_compiled.append(compiler.compiled))
    ours(*batch())
    assert torch.equal(gradient(work.module), expected), "nothing was drawn or learnt by measuring"
    assert was_compiled[-1] == taken
    (line,) = said
    assert line.startswith(f"a compiled step takes {1e3 * cost:.1f} ms instead of 5000.0")
    assert line.endswith("it is taken") == taken
    ours(*batch())
    assert len(said) == 1, "it is measured once"
    handle.remove()


def test_what_cannot_be_compiled_is_said_and_not_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **options: object) -> None:
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    monkeypatch.setattr(gradients, "is_worth_compiling", lambda device, steps: True)
    work = new_task()
    with caplog.at_level(logging.WARNING, "fxnorm"):
        of(work, compile="auto")(*batch())
    (record,) = caplog.records
    assert record.getMessage() == (
        "train: torch.compile fails here, and the steps are not compiled (RuntimeError: no compiler here)"
    )
    assert gradient(work.module).norm() > 0
    with pytest.raises(FxnormError, match=r"resources\.compile: torch\.compile fails here \(RuntimeError: no comp"):
        of(work, compile=True)(*batch())


def test_compiling_is_for_gpus_and_trainings_that_last() -> None:
    assert gradients.is_worth_compiling(torch.device("cuda"), 100_000)
    assert not gradients.is_worth_compiling(torch.device("cuda"), 100)
    assert not gradients.is_worth_compiling(CPU, 100_000)


@pytest.mark.system  # it starts compilers
@pytest.mark.parametrize("settings", PUBLISHED, ids=str)
@pytest.mark.parametrize("parts", [1, 2])
def test_network_and_loss_are_compiled_as_one_function(
    settings: dict[str, str], parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_for_real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: compile_for_real(function, backend="aot_eager"))
    work = without_dropout(new_task(**settings))
    examples = batch(2 * parts)  # parts of one size, for which the network is compiled once
    loss, expected = of(work)(*examples), gradient(work.module)
    ours = of(work, compile=True, accumulation=parts)
    for _ in range(2):
        assert float(ours(*examples)) == pytest.approx(float(loss), rel=1e-5)
        assert float((gradient(work.module) - expected).norm()) < 1e-4 * float(expected.norm())
