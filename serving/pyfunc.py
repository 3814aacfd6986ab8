"""The Mixer as an MLflow pyfunc: stems as the bytes of audio files in, a mix as the bytes of an audio file out.

MLflow runs this file when it loads the model ("models from code"); the packages ``fxnorm`` and ``serving`` travel
beside it.
"""

import logging
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.pyfunc import PythonModel, PythonModelContext

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import FxnormError, ModelError, StoreError
from fxnorm.io import audio
from fxnorm.mixing.delivery import DeliveredMix, Delivery, deliver, encode
from fxnorm.mixing.mixer import Mixer
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.reference import MatchedMix, Reference, check_reference, delivered_mix
from fxnorm.mixing.report import describe, measure_stems
from fxnorm.serving import request_limiter
from fxnorm.serving.deadline import CURRENT, Deadline, OutOfTimeError
from fxnorm.serving.limits import Limits
from fxnorm.serving.stems import REFERENCE, StemReader

_WARM_UP_SECONDS = 3.0
_WARM_UP_LOUDNESS = -6.0  # LUFS, at which the limiter has something to do

_logger = logging.getLogger(__name__)


class AnsweredError(MlflowException):
    """A request that is answered with an error of one line.

    MLflow's server puts the request's data in front of the message; this class keeps its own.
    """

    def __init__(self, reason: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(reason, error_code=error_code)
        self.reason = reason

    def serialize_as_json(self) -> str:
        self.message = self.reason
        return str(super().serialize_as_json())


class StemMixer(PythonModel):
    """Each row of the input is a song, each column a stem; the result has one row a song."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the Mixer that was registered; in a server, also limit requests and compile what mixing needs."""
        # one thread for all networks: as soon as a second thread has run parallel work, OpenMP's threads sleep instead
        # of spinning while they wait for each other, and a network takes a quarter longer
        self._mixing = ThreadPoolExecutor(1, "mixing")
        self.mixer = self._mixing.submit(Mixer.load, context.artifacts["mixer"]).result()
        self._limits = Limits.from_environment(os.environ, MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())
        if request_limiter.install(self._limits):
            self._mixing.submit(_warm_up, self.mixer).result()
        else:
            request_limiter.warn_without()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Mix the songs, one after the other.

        Args:
            context: MLflow's.
            model_input: columns ``vocals``, ``bass``, ``drums``, ``other`` with the bytes of WAV, FLAC or MP3 files, or
                ``vocals_uri`` and so on with ``s3://`` URIs below ``FXNORM_S3_PREFIXES``; any may be missing. Or
                ``tracks`` with such files, in base64, or URIs by name, and ``table`` with what is to be done with them.
                ``reference`` or ``reference_uri``, a song that the mix is brought to.
            params: the fields of :class:`MixOptions`.

        Returns:
            columns ``mix`` (bytes of an audio file), ``sample_rate`` (Hz), ``seconds`` that the mix took, ``groups``
            of the tracks, ``reference`` with what brought the mix to a song, and the fields of
            :class:`fxnorm.mixing.report.MixReport`.

        Raises:
            AnsweredError: a stem cannot be read, there is nothing to mix, a limit is passed, the object store does not
                answer, or the time is over.
        """
        deadline = CURRENT.get() or Deadline(math.inf)
        try:
            options = MixOptions.of(params or {})
            if model_input.empty:
                raise FxnormError(f"expected at least one row with a stem of {', '.join(STEMS)}, found none")
            return self._mix_all(model_input.to_dict("records"), options, deadline)
        except OutOfTimeError as error:
            raise AnsweredError(str(error), DEADLINE_EXCEEDED) from error
        except StoreError as error:  # not the request's fault; where the store is goes into the log alone
            _logger.error("%s", error)
            raise AnsweredError("the object store does not answer; try again later", TEMPORARILY_UNAVAILABLE) from error
        except ModelError as error:
            _logger.error("%s", error)
            raise AnsweredError("the served model is damaged; the server's log says how", INTERNAL_ERROR) from error
        except FxnormError as error:
            raise AnsweredError(str(error)) from error
        except Exception as error:  # a defect: MLflow would blame the request, and show the client the trace
            _logger.exception("a request that should have been mixed failed")
            raise AnsweredError("the server failed to mix this; its log says why", INTERNAL_ERROR) from error

    def _mix_all(self, rows: list[dict[str, Any]], options: MixOptions, deadline: Deadline) -> pd.DataFrame:
        reader = StemReader(self._limits, deadline)
        mixes = [self._mix_row(row, reader, options, deadline) for row in rows]
        # as objects: among numbers pandas would make NaN of None, for which JSON has no word
        return pd.DataFrame(mixes, dtype=object)

    def _mix_row(
        self, row: dict[str, Any], reader: StemReader, options: MixOptions, deadline: Deadline
    ) -> dict[str, Any]:
        reference = reader.read_reference(row)
        check_reference(reference, options)
        tracks = reader.read_tracks(row, self.mixer.recipe.statistics)
        if tracks is None:
            return self._mix(reader.read(row), options, deadline, reference) | {"groups": None}
        mixed = self._mix(tracks.stems, options.for_tracks(), deadline, reference)
        return mixed | {"groups": tracks.groups, "warnings": [*tracks.warnings, *mixed["warnings"]]}

    def _mix(
        self, stems: dict[str, np.ndarray], options: MixOptions, deadline: Deadline, reference: Reference | None
    ) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as beside:  # the network leaves a part of the cores idle
            measured = beside.submit(measure_stems, stems)
            mix, seconds = self._mix_alone(stems, options, deadline, reference)
            report = describe(measured.result(), mix, self.mixer.recipe.statistics)
        deadline.check()
        suffix = f".{options.output_format}"
        if clipped := audio.clipping(mix.audio, suffix):
            report.warnings.append(f"mix: {clipped}")
        matched = None
        if isinstance(mix, MatchedMix):
            matched = mix.match.model_dump()
            report.warnings.extend(f"{REFERENCE}: {remark}" for remark in mix.match.remarks)
        content = encode(mix.audio, options.sample_rate, suffix, options.bits)
        answer = {"mix": content, "sample_rate": options.sample_rate, "seconds": seconds, "reference": matched}
        return answer | asdict(report)

    def _mix_alone(
        self, stems: dict[str, np.ndarray], options: MixOptions, deadline: Deadline, reference: Reference | None
    ) -> tuple[DeliveredMix, float]:
        """A mix, and the seconds that it took, in the thread that mixes one song after another."""

        def mix() -> tuple[DeliveredMix, float]:
            start = time.perf_counter()
            deadline.check()
            mixed = self.mixer.keeping(options.keep).mix(
                stems,
                SAMPLE_RATE,
                bool(options.dry),
                options.seed,
                progress=deadline.check,
                song=options.song,
            )
            delivered = delivered_mix(mixed, options, self.mixer.recipe.statistics, reference)
            return delivered, time.perf_counter() - start

        mixing = self._mixing.submit(mix)
        try:
            return mixing.result(min(deadline.remaining(), threading.TIMEOUT_MAX))
        except TimeoutError:
            if mixing.cancel():  # others were mixed all the time
                deadline.check()
            return mixing.result()  # it looks at the time between its parts


def _warm_up(mixer: Mixer) -> None:
    """Compile the loops of the effects, which takes longer than many a mix, before the first request."""
    generator = np.random.default_rng(0)
    shape = (2, round(_WARM_UP_SECONDS * SAMPLE_RATE))
    stems = {stem: 0.1 * generator.standard_normal(shape).astype(np.float32) for stem in STEMS}
    statistics = mixer.recipe.statistics
    mix = deliver(mixer.mix(stems, SAMPLE_RATE, dry=True), Delivery(_WARM_UP_LOUDNESS), statistics)
    describe(measure_stems(stems), mix, statistics)


mlflow.models.set_model(StemMixer())
