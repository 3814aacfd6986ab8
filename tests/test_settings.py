"""params.yaml: published defaults, overrides, and what is said about mistakes."""

from pathlib import Path

import pytest

from fxnorm.errors import SettingsError
from fxnorm.settings import Settings


def load(tmp_path: Path, text: str, *overrides: str) -> Settings:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return Settings.load(path, overrides)


def test_the_defaults_are_the_published_values() -> None:
    train = Settings.load(None).train
    assert round(train.sequence_seconds * 44_100) == 440_960
    assert (train.batch_size, train.batches_per_epoch, train.gradient_norm) == (4, 1_600, 0.2)
    assert [step.epochs for step in train.schedule] == [150, 50, 50, 25, 25, 10]


def test_an_override_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path, "train: {batch_size: 2, sizes: {filters: 16}}", "train.batch_size=3", "train.sizes.skip=8"
    )
    assert settings.train.batch_size == 3
    assert settings.train.sizes == {"filters": 16, "skip": 8}


@pytest.mark.parametrize(
    "text, said",
    [
        ("trian: {}", "trian: unknown key; did you mean 'train'"),
        ("train: {batchsize: 2}", "train.batchsize: unknown key; did you mean 'batch_size'"),
        ("train: {threads: 1}", "train.threads: belongs into another section; expected resources.threads"),
        ("register: {nam: x}", "register.nam: unknown key; did you mean 'name'"),
        ("train: {schedule: [{epochs: 1, learning_rat: 1, learning_rate: 1}]}", "train.schedule.0.learning_rat"),
        ("train: {loss: c}", "train.loss: input should be 'a', 'b' or 'matched', found 'c'"),
        ("train: {batch_size: 0}", "train.batch_size: input should be greater than 0, found 0"),
        ("train: 3", "train: "),
        ("register: {name: a/b}", "register.name: expected a name without '/' and ':', found 'a/b'"),
        ("register: {name: ''}", "register.name: expected a name"),
        ("- a\n- b", "expected sections with keys, found list"),
        ("train: [", "not readable as YAML"),
        ("train: {sizes: {filters: {a: 1}}}", "train.sizes.filters"),
    ],
)
def test_a_mistake_gets_one_line_that_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "params.yaml"))
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("override", ["train", "=3", "train.=3", "train.loss.x=1", "train.sizes=["])
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(SettingsError):
        load(tmp_path, "train: {loss: a}", override)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: no such settings file"):
        Settings.load(tmp_path / "none.yaml")


def test_flat_names_hold_plain_values_of_the_sections_asked_for() -> None:
    flat = Settings.load(None, ["train.sizes.filters=16"]).flat("train", "normalize")
    assert flat["train.sizes.filters"] == 16
    assert flat["train.schedule"].startswith("150 x 0.001, 50 x 0.000333")
    assert {name.partition(".")[0] for name in flat} == {"train", "normalize"}
