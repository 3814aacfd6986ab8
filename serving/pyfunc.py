"""The Mixer as an MLflow pyfunc: stems as the bytes of audio files in, a mix as the bytes of an audio file out.

MLflow runs this file when it loads the model ("models from code"); the library travels beside it.
"""

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from fxnorm import audio
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import loudness
from fxnorm.errors import FxnormError
from fxnorm.mixer import Mixer


class UnusableStems(MlflowException):
    """A request that cannot be served as it stands: HTTP 400 with one line.

    MLflow's server puts the request's data in front of the message; this class keeps its own.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, error_code=INVALID_PARAMETER_VALUE)
        self.reason = reason

    def serialize_as_json(self) -> str:
        self.message = self.reason
        return str(super().serialize_as_json())


class StemMixer(PythonModel):
    """Each row of the input is a song, each column a stem; the result has one row a song."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the Mixer that was registered."""
        self.mixer = Mixer.load(context.artifacts["mixer"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Mix the songs.

        Args:
            context: MLflow's.
            model_input: columns ``vocals``, ``bass``, ``drums``, ``other`` with the bytes of WAV, FLAC or MP3 files;
                any may be missing.
            params: unused.

        Returns:
            columns ``mix`` (bytes of a 16-bit FLAC file), ``sample_rate`` (Hz), ``loudness_lufs``.

        Raises:
            UnusableStems: a stem cannot be read, or there is nothing to mix.
        """
        if model_input.empty:
            raise UnusableStems(f"expected at least one row with a stem of {', '.join(STEMS)}, found none")
        try:
            return pd.DataFrame([self._mix(row) for row in model_input.to_dict("records")])
        except FxnormError as error:
            raise UnusableStems(str(error)) from error

    def _mix(self, row: dict[str, Any]) -> dict[str, Any]:
        stems = {
            stem: audio.decode(content, stem)[0]
            for stem in STEMS
            if isinstance(content := row.get(stem), bytes) and content
        }
        mix = self.mixer.mix(stems, SAMPLE_RATE)
        return {
            "mix": audio.encode(mix, SAMPLE_RATE, ".flac", subtype="PCM_16"),
            "sample_rate": SAMPLE_RATE,
            "loudness_lufs": loudness.measure(mix, SAMPLE_RATE),
        }


mlflow.models.set_model(StemMixer())
