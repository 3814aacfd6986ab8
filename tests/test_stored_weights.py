"""Weights that a training begins with, brought from an S3 store; test_kubeflow.py brings those that are at MLflow."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fxnorm.constants import WEIGHTS_FILE
from fxnorm.data.provenance import TRAINED_ON_FILE
from fxnorm.errors import FxnormError
from fxnorm.pipeline.parameters import Parameters
from fxnorm.registry import stored_weights
from tests import servers, stores
from tests.folders import contents


@pytest.mark.system
def test_weights_come_from_a_store_with_what_they_learnt_from(
    mixer_folder: Path, tmp_path: Path, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    mixer = Path(shutil.copytree(mixer_folder, tmp_path / "mixer"))
    (mixer / TRAINED_ON_FILE).write_text("{}")
    client = servers.s3_client(s3_environment)
    for file in (WEIGHTS_FILE, TRAINED_ON_FILE, "mixer.json"):
        client.upload_file(str(mixer / file), "fxnorm", f"weights/mixer/{file}")
    for address in ("s3://fxnorm/weights/mixer/", f"s3://fxnorm/weights/mixer/{WEIGHTS_FILE}"):
        with stored_weights.opened(address) as found:
            assert found is not None
            folder = found if found.is_dir() else found.parent
            assert {path.name for path in folder.iterdir()} == {WEIGHTS_FILE, TRAINED_ON_FILE}
            assert (folder / WEIGHTS_FILE).read_bytes() == (mixer / WEIGHTS_FILE).read_bytes()
        assert not folder.exists()
    monkeypatch.setattr(stored_weights, "_LARGEST_BYTES", 100)
    for address, said in (
        ("s3://fxnorm/weights/mixer", "expected at most 100"),
        ("s3://fxnorm/weights/none", "s3://fxnorm/weights/none/weights.safetensors: cannot be read"),
    ):
        with pytest.raises(FxnormError, match=said) as caught, stored_weights.opened(address):
            pass
        assert str(caught.value).startswith("train.initial_weights: s3://")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address, said",
    [
        ("s3://fxnorm", "expected s3://BUCKET/KEY"),
        ("models:/fxnorm", "expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("runs:/latest", "expected runs:/RUN_ID"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_asked(address: str, said: str) -> None:
    with pytest.raises(FxnormError, match=f"train.initial_weights: {address}: {said}"), stored_weights.opened(address):
        pass
    with pytest.raises(FxnormError, match=f"settings.train.initial_weights: {address}: {said}"):
        Parameters.load(None, ["repository=here", f"settings.train.initial_weights={address}"])


def test_a_run_that_trained_a_front_end_has_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.new_database(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("fxnorm", str(tmp_path / "artifacts"))
    with_weights, without = (client.create_run(experiment).info.run_id for _ in range(2))
    for name in (WEIGHTS_FILE, TRAINED_ON_FILE, "other.bin"):
        (tmp_path / name).write_text(name)
        client.log_artifact(with_weights, str(tmp_path / name), stored_weights.FRONT_END_FOLDER)
    with stored_weights.opened(f"runs:/{with_weights}") as found:
        assert found is not None
        assert contents(found) == {name: name.encode() for name in (WEIGHTS_FILE, TRAINED_ON_FILE)}
    for run_id, said in ((without, "expected a run that trained a front-end"), ("0" * 32, "cannot be read")):
        with pytest.raises(FxnormError, match=said) as caught, stored_weights.opened(f"runs:/{run_id}"):
            pass
        assert "\n" not in str(caught.value)
