"""A clone of the method's reference repository as a Mixer and a registered version, and one that is no such clone.

The clone here has the published form: the true weights are not in the tests.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from torch import Tensor

from fxnorm import DatasetStatistics, Mixer, models
from fxnorm.cli import main
from fxnorm.constants import STEMS
from fxnorm.data import provenance
from fxnorm.mixing.mixer import mixer_digest
from fxnorm.registry import aliases
from fxnorm.registry.aliases import Version
from fxnorm.registry.registered import open_mixer
from fxnorm.tracking.runs import MIXER_TAG
from tests.test_import_weights import STATISTICS
from tests.test_models_reference import checkpoint

AVERAGES = "trainings/features/features_MUSDB18.npy"
WEIGHTS = "trainings/results/ours_S_Lb/current_model_for_mixture.params"
MODEL = "published"

_OWN_NAMES = (
    (r"front_end\.filters", "conv_1.weight"),
    (r"front_end\.smoothing", "conv_2.0.weight"),
    (r"latent_mixer\.norm\.", "layerNorm."),
    (r"latent_mixer\.bottleneck\.", "bottleneck_conv1x1."),
    (r"latent_mixer\.output_activation\.", "output.0."),
    (r"latent_mixer\.output\.", "output.1."),
    (r"latent_mixer\.recurrent\.", "blstm."),
    (r"excitation\.squeeze\.", "se_block.net.0."),
    (r"excitation\.excite\.", "se_block.net.2."),
    (r"\.expand\.", ".conv1x1."),
    (r"\.expand_activation\.", ".nonlinearity1."),
    (r"\.expand_norm\.", ".norm1."),
    (r"\.depthwise\.", ".depthwise_conv."),
    (r"\.depthwise_activation\.", ".nonlinearity2."),
    (r"\.depthwise_norm\.", ".norm2."),
    (r"\.skip\.", ".skip_out."),
    (r"\.residual\.", ".res_out."),
)
_BLOCKS_PER_REPEAT = 6


def as_the_reference_names_it(name: str) -> str:
    for pattern, replacement in _OWN_NAMES:
        name = re.sub(pattern, replacement, name)

    def in_its_repeat(match: re.Match[str]) -> str:
        repeat, block = divmod(int(match[1]), _BLOCKS_PER_REPEAT)
        return f"repeats.{repeat}.{block}."

    return re.sub(r"latent_mixer\.blocks\.(\d+)\.", in_its_repeat, name)


def store(clone: Path, name: str, content: Any) -> None:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, clone / name)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """With averages and a small CRAFx2."""
    root = tmp_path / "clone"
    statistics = DatasetStatistics.load(STATISTICS)
    names = {"eq": "equalization", "compression": "compression", "panning": "panning", "loudness": "loudness"}
    averages = {name: {stem: statistics.mean(effect, stem) for stem in STEMS} for name, effect in names.items()}
    (root / AVERAGES).parent.mkdir(parents=True)
    np.save(root / AVERAGES, averages, allow_pickle=True)  # type: ignore[arg-type]
    store(root, WEIGHTS, checkpoint("crafx2")[0])
    return root


def fxnorm(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["import-reference", *(str(argument) for argument in arguments)])


def imported(clone: Path, *options: object) -> Path:
    output = clone.parent / "mixer"
    result = fxnorm(clone, output, *options)
    assert result.exit_code == 0, result.output
    return output


def test_a_network_of_the_published_size_comes_over_unchanged(clone: Path) -> None:
    network = models.build("crafx2", front_end="random")
    weights = {as_the_reference_names_it(name): value for name, value in network.state_dict().items()}
    assert sum(value.numel() for value in weights.values()) == 2_752_817
    store(clone, WEIGHTS, weights)
    mixer = Mixer.load(imported(clone))
    assert mixer.network.config == network.config
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in mixer.network.state_dict().items())
    published = DatasetStatistics.load(STATISTICS)
    for effect, stem in published:
        np.testing.assert_array_equal(mixer.recipe.statistics.mean(effect, stem), published.mean(effect, stem))


def test_what_it_learnt_from_is_told_and_the_weights_are_named(clone: Path) -> None:
    result = fxnorm(clone, clone.parent / "mixer")
    assert "experiment ours_S_Lb of https://github.com/sony/FxNorm-automix (MIT licence)" in result.output
    learnt = provenance.read(clone.parent / "mixer")
    assert [(share.dataset, share.commercial) for share in learnt.shares] == [("MUSDB18", False)]


def test_the_published_wave_u_net_and_front_end_are_imported_by_name(clone: Path) -> None:
    best = "best_model_for_mixture_valid_stereo_loss_mean.params"
    store(clone, f"trainings/results/wun_S_Lb/{best}", checkpoint("wave_u_net")[0])
    assert isinstance(Mixer.load(imported(clone, "--experiment", "wun_S_Lb")).network, models.WaveUNet)
    store(clone, "trainings/results/ours_S_pretrained/current_model_for_mixture.params", checkpoint("crafx2")[0])
    front_end = load_file(imported(clone, "--experiment", "ours_S_pretrained") / "weights.safetensors")
    assert front_end.keys() == {"front_end.filters", "front_end.smoothing"}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "net.", "network.", "model.", "module.model."])
@pytest.mark.parametrize("network", ["crafx2", "wave_u_net"])
def test_prefixes_of_what_a_network_was_stored_with_are_left_out(network: str, prefix: str) -> None:
    weights, _ = checkpoint(network)
    stored: dict[str, Tensor] = {f"{prefix}{name}": value for name, value in weights.items()}
    assert models.unwrapped(stored).keys() == weights.keys()


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 11022335\n")


def replace_by_link(path: Path) -> None:
    path.rename(path.parents[4] / "elsewhere")
    path.symlink_to(path.parents[4] / "elsewhere")


def replace_by_code(path: Path) -> None:
    torch.save({"weights": Path("here")}, path)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (AVERAGES, Path.unlink, f"{{clone}}: expected a clone of https://.*, found no {AVERAGES}$"),
        (WEIGHTS, Path.unlink, f"{{clone}}: expected a clone of https://.*, found no {WEIGHTS}$"),
        (AVERAGES, pointer, f"{{clone}}/{AVERAGES}: is a pointer of Git LFS, .*'git lfs pull'"),
        (WEIGHTS, pointer, f"{{clone}}/{WEIGHTS}: is a pointer of Git LFS, .*'git lfs pull'"),
        (WEIGHTS, replace_by_link, f"{{clone}}/{WEIGHTS}: is a link that leads out of {{clone}}"),
        (WEIGHTS, replace_by_code, f"{{clone}}/{WEIGHTS}: not a checkpoint, or one with more than tensors"),
    ],
)
def test_a_clone_that_lacks_something_is_refused_by_name(
    clone: Path, file: str, change: Callable[[Path], object], said: str
) -> None:
    change(clone / file)
    result = fxnorm(clone, clone.parent / "mixer")
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert re.search(said.format(clone=re.escape(str(clone))), line), line
    assert not (clone.parent / "mixer").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--experiment", "../results/ours_S_Lb"], "expected the name of a folder in trainings/results"),
        (["--experiment", ".."], "expected the name of a folder in trainings/results"),
        (["--experiment", "ours_S_La"], "current_model_for_mixture.params; trainings/results has ours_S_Lb"),
        (["--experiment", "ours_S_pretrained", "--register"], "a front-end alone"),
        (["--alias", "champion"], "add --register"),
    ],
)
def test_what_cannot_be_imported_is_told(clone: Path, options: list[str], said: str) -> None:
    result = fxnorm(clone, clone.parent / "mixer", *options)
    assert result.exit_code == 1
    assert said in result.output
    assert not (clone.parent / "mixer").exists()


@pytest.mark.system
def test_an_import_is_registered_once_without_metrics_and_gets_the_alias_asked_for(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    options = ("--register", "--set", f"register.name={MODEL}")
    mixer = imported(clone, *options)
    version = aliases.version(MODEL, "1")
    assert version is not None
    assert version.tags[MIXER_TAG] == mixer_digest(mixer)
    assert version.tags["imported.licence"] == "MIT"
    assert version.tags["data.licences"] == "academic use only"
    client = mlflow.MlflowClient()
    assert not client.get_registered_model(MODEL).aliases, "nobody asked for one"
    description = str(client.get_model_version(MODEL, "1").description)
    assert "Registered without an alias: imported: experiment ours_S_Lb" in description
    assert "MUSDB18 (academic use only), no commercial use: 86 to learn from" in description
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {})
    assert run.data.tags["imported.experiment"] == "ours_S_Lb"
    assert run.data.params["train.network"] == "crafx2"
    registered = open_mixer(f"models:/{MODEL}/1").network.state_dict()
    assert all(torch.equal(registered[name], value) for name, value in Mixer.load(mixer).network.state_dict().items())

    def at(alias: str) -> Version | None:
        return aliases.version_at(MODEL, alias)

    imported(clone, *options, "--alias", "challenger")
    assert (challenger := at("challenger")) is not None
    assert challenger.number == "1", "the same Mixer keeps its version"
    refused = fxnorm(clone, mixer, *options, "--alias", "champion", "--set", "register.allowed_licences=[CC0-1.0]")
    assert "trained on MUSDB18 (academic use only); register.allowed_licences has CC0-1.0" in refused.output
    assert at("champion") is None
    imported(clone, *options, "--alias", "champion")
    assert (champion := at("champion")) is not None
    assert (champion.number, at("challenger")) == ("1", None)
