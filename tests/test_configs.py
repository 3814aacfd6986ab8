"""The published experiments as settings files."""

from pathlib import Path

import pytest
import yaml

from fxnorm import models
from fxnorm.settings import Settings, TrainSettings
from fxnorm.stages import train as stage
from fxnorm.training import loop
from tests.commands import fxnorm, the_line

CONFIGS = Path(__file__).parents[1] / "configs"
RATES = (1e-3, 1e-3 / 3, 1e-4, 1e-3 / 30, 1e-5, 1e-6)


def load(name: str) -> TrainSettings:
    return Settings.load(CONFIGS / f"{name}.yaml").train


@pytest.mark.parametrize(
    ("name", "epochs", "batch_size", "seconds", "weight_decay"),
    [
        ("pretraining", (40, 20, 20, 10, 10, 5), 20, 3.0, 1e-6),
        ("crafx2_la", (150, 50, 50, 25, 25, 10), 4, 440_960 / 44_100, 1e-7),
        ("crafx2_lb", (150, 50, 50, 25, 25, 10), 4, 440_960 / 44_100, 1e-7),
        ("wave_u_net_lb", (100, 50, 25, 10, 10, 5), 1, 440_960 / 44_100, 1e-7),
    ],
)
def test_the_recipes_are_the_published_ones(
    name: str, epochs: tuple[int, ...], batch_size: int, seconds: float, weight_decay: float
) -> None:
    train = load(name)
    assert (train.batch_size, train.sequence_seconds, train.weight_decay) == (batch_size, seconds, weight_decay)
    assert (train.gradient_norm, train.swap_channels, train.early_stopping_epochs) == (0.2, True, 0)
    assert tuple(part.epochs for part in train.schedule) == epochs
    assert [part.learning_rate for part in train.schedule] == pytest.approx(RATES, rel=1e-6)
    rates = loop.learning_rates(train)
    assert rates[:1_600] == [0.0] * 1_600, "an epoch that only fills Adam's moments"
    assert len(rates) == 1_600 * (1 + sum(epochs))


def test_the_experiments_differ_in_what_they_are_about_alone() -> None:
    one, other = load("crafx2_la"), load("crafx2_lb")
    assert (one.loss, other.loss) == ("a", "b")
    assert one.model_copy(update={"loss": "b"}) == other
    assert [load(name).task for name in ("pretraining", "crafx2_la", "wave_u_net_lb")] == ["front_end", "mix", "mix"]


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.iterdir()))
def test_an_experiment_becomes_the_params_of_dvc(name: str, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    result = fxnorm("settings", CONFIGS / f"{name}.yaml", "--output", params)
    assert result.exit_code == 0, result.output
    assert Settings.load(params) == Settings.load(CONFIGS / f"{name}.yaml")
    stages = yaml.safe_load((CONFIGS.parent / "dvc.yaml").read_text())["stages"].values()
    sections = {section for stage in stages for section in stage.get("params", [])}
    assert sections <= yaml.safe_load(params.read_text()).keys()


def test_files_of_differences_change_each_other_and_the_published_values(tmp_path: Path) -> None:
    small, named = tmp_path / "small.yaml", tmp_path / "named.yaml"
    small.write_text("train: {sizes: {filters: 16}, loss: a}\nregister: {margin: 1.0}")
    named.write_text("register: {name: mine}\ntrain: {loss: b}")
    printed = fxnorm("settings", CONFIGS / "crafx2_la.yaml", small, named, "--set", "train.seed=3").output
    (tmp_path / "params.yaml").write_text(printed)
    settings = Settings.load(tmp_path / "params.yaml")
    assert settings.train.sizes == {"front_end": "random", "filters": 16}
    assert (settings.train.loss, settings.train.seed, settings.train.batches_per_epoch) == ("b", 3, 1_600)
    assert (settings.register_.name, settings.register_.margin) == ("mine", 1.0)
    named.write_text("register: {nam: mine}")
    assert f"{named}: register.nam: unknown key" in the_line(fxnorm("settings", small, named))
    refused = fxnorm("settings", small, "--output", small)
    assert "is an input of this command" in the_line(refused)


def test_the_steps_that_small_trainings_are_compared_with_are_the_published_ones() -> None:
    for network, name in (("crafx2", "crafx2_lb"), ("wave_u_net", "wave_u_net_lb")):
        assert stage._PUBLISHED_STEPS[network] == len(loop.learning_rates(load(name)))
    assert Settings.load(None).train == load("crafx2_lb").model_copy(update={"sizes": {}, "initial_weights": None})


@pytest.mark.parametrize("name", ["pretraining", "crafx2_la", "crafx2_lb"])
def test_crafx2_has_the_published_number_of_parameters(name: str) -> None:
    train = load(name)
    network = models.build(train.network, **train.sizes)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_752_817
    assert network.edge_guard == 32_446


def test_the_wave_u_net_is_the_released_one() -> None:
    train = load("wave_u_net_lb")
    assert models.build(train.network, **train.sizes).config == {
        "name": "wave_u_net",
        "features": 24,
        "levels": 5,
        "kernel": 5,
        "stride": 1,
    }
