"""The Mixer as an MLflow pyfunc: stems as the bytes of audio files in, a mix as the bytes of an audio file out.

MLflow runs this file when it loads the model ("models from code"); the packages ``fxnorm`` and ``serving`` travel
beside it.
"""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

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
from fxnorm.errors import FxnormError, ModelError, SettingsError, StoreError
from fxnorm.io import audio
from fxnorm.mixing.delivery import DeliveredMix, Delivery, deliver, encode
from fxnorm.mixing.mixer import Mixer
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.reference import MatchedMix, Reference, check_reference, delivered_mix
from fxnorm.mixing.report import describe, measure_stems
from fxnorm.serving import request_limiter
from fxnorm.serving.deadline import CURRENT, Deadline, OutOfTimeError
from fxnorm.serving.limits import Limits
from fxnorm.serving.metrics import Metrics
from fxnorm.serving.record import RECORD, RequestRecord, TimedMixer
from fxnorm.serving.request_log import RequestLog
from fxnorm.serving.shadow import Shadow, ShadowSong
from fxnorm.serving.stems import REFERENCE, StemReader
from fxnorm.serving.tokens import Tokens
from fxnorm.serving.updates import Updates
from fxnorm.serving.versions import Origin, Served
from fxnorm.serving.watch import Watch
from fxnorm.serving.watching import Watching
from fxnorm.serving.workers import shared_folder

_WARM_UP_SECONDS = 3.0
_WARM_UP_LOUDNESS = -6.0  # LUFS, at which the limiter has something to do

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


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
        self._watch = Watch()
        self._shadow: Shadow | None = None
        folder = Path(context.artifacts["mixer"])
        if not request_limiter.is_server():
            self._limits = _limits()
            self._served = Served(self._mixing.submit(Mixer.load, folder).result(), Origin.of(folder))
            request_limiter.warn_without()
            return
        try:
            self._limits, watching = _limits(), Watching.from_environment(os.environ)
            self._served = Served(self._mixing.submit(Mixer.load, folder).result(), Origin.of(folder))
            self._watch = self._watched(watching)
        except SettingsError as error:  # of the server's environment: a line and no trace
            sys.exit(f"fxnorm: {error}")
        request_limiter.install(self._limits, self._watch)
        self._mixing.submit(_warm_up, self._served.mixer).result()

    def _watched(self, watching: Watching) -> Watch:
        """What the server does beside mixing, begun."""
        watch, shared, origin = Watch(), shared_folder(), self._served.origin
        watch.metrics = metrics = Metrics(shared) if watching.metrics else None
        count_log = count_tokens = _nothing
        if metrics is not None:
            metrics.serves(origin.version, origin.code)
            count_log, count_tokens = metrics.log_failures.inc, metrics.tokens_failures.inc
        if watching.tokens_file is not None:
            watch.tokens = Tokens(watching.tokens_file, count_tokens)
        if watching.request_log is not None:
            watch.log = RequestLog(watching.request_log, watching.request_log_bytes, count_log)
        if watching.model is not None and (watching.reload or watching.watch_seconds):
            updates = Updates(watching.model, self, self._mixing, metrics, shared)
            watch.reload = updates.reload if watching.reload else None
            updates.begin(watching.watch_seconds)
            watch.at_end.append(updates.end)
        if watching.shadow is not None and watching.shadow_share:
            self._shadow = Shadow(watching, origin, self._mixing, watch.activity, metrics)
            self._shadow.begin()
            watch.at_end.append(self._shadow.end)
        return watch

    @property
    def served(self) -> Served:
        """What mixes the next request."""
        return self._served

    def take(self, served: Served) -> None:
        """Have another version mix the next request; those in progress go on with the one that they began with.

        Raises:
            ModelError: its mix is silent or damaged.
        """
        if not self._mixing.submit(_warm_up, served.mixer).result():
            raise ModelError("its mix of three seconds of noise is silent")
        before, self._served = self._served, served
        if self._watch.metrics is not None:
            self._watch.metrics.serves(served.origin.version, served.origin.code, before.origin.version)

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
        deadline, record = CURRENT.get() or Deadline(math.inf), RECORD.get() or RequestRecord()
        record.until_here("decode")
        try:
            options = MixOptions.of(params or {})
            if model_input.empty:
                raise FxnormError(f"expected at least one row with a stem of {', '.join(STEMS)}, found none")
            return self._mix_all(model_input.to_dict("records"), options, deadline, record)
        except OutOfTimeError as error:
            record.reason = "time"
            raise AnsweredError(str(error), DEADLINE_EXCEEDED) from error
        except StoreError as error:  # not the request's fault; where the store is goes into the log alone
            record.reason = "store"
            _logger.error("%s", error)
            raise AnsweredError("the object store does not answer; try again later", TEMPORARILY_UNAVAILABLE) from error
        except ModelError as error:
            record.reason = "model"
            _logger.error("%s", error)
            raise AnsweredError("the served model is damaged; the server's log says how", INTERNAL_ERROR) from error
        except FxnormError as error:
            record.reason = "request" if isinstance(error, SettingsError) else "audio"
            raise AnsweredError(str(error)) from error
        except Exception as error:  # a defect: MLflow would blame the request, and show the client the trace
            record.reason = "defect"
            _logger.exception("a request that should have been mixed failed")
            raise AnsweredError("the server failed to mix this; its log says why", INTERNAL_ERROR) from error
        finally:
            record.mark()

    def _mix_all(
        self, rows: list[dict[str, Any]], options: MixOptions, deadline: Deadline, record: RequestRecord
    ) -> pd.DataFrame:
        served, reader = self._served, StemReader(self._limits, deadline)
        record.version = served.origin.version
        mixes = []
        for row in rows:
            with self._watch.mixing():
                mixes.append(_Song(self, served, reader, options, deadline, record).mixed(row))
        # as objects: among numbers pandas would make NaN of None, for which JSON has no word
        return pd.DataFrame(mixes, dtype=object)

    def mix_alone(self, mix: Callable[[], _Result], deadline: Deadline) -> _Result:
        """The result of a function that mixes, in the thread that mixes one song after another.

        Raises:
            OutOfTimeError: the time is over before it begins.
        """
        mixing = self._mixing.submit(mix)
        try:
            return mixing.result(min(deadline.remaining(), threading.TIMEOUT_MAX))
        except TimeoutError:
            if mixing.cancel():  # others were mixed all the time
                deadline.check()
            return mixing.result()  # it looks at the time between its parts

    def offer(self, song: Callable[[], ShadowSong]) -> None:
        """Perhaps have another model mix a song too, when nobody waits."""
        if self._shadow is not None:
            self._shadow.offer(song)


@dataclass(frozen=True)
class _Song:
    """One song of a request."""

    model: StemMixer
    served: Served
    reader: StemReader
    options: MixOptions
    deadline: Deadline
    record: RequestRecord

    def mixed(self, row: dict[str, Any]) -> dict[str, Any]:
        """The answer's row to a row."""
        with self.record.phase("decode"):
            reference = self.reader.read_reference(row)
            check_reference(reference, self.options)
            tracks = self.reader.read_tracks(row, self.served.mixer.recipe.statistics)
            stems = self.reader.read(row) if tracks is None else tracks.stems
        if tracks is None:
            return self._mix(stems, self.options, reference) | {"groups": None}
        mixed = self._mix(stems, self.options.for_tracks(), reference)
        return mixed | {"groups": tracks.groups, "warnings": [*tracks.warnings, *mixed["warnings"]]}

    def _mix(self, stems: dict[str, np.ndarray], options: MixOptions, reference: Reference | None) -> dict[str, Any]:
        statistics = self.served.mixer.recipe.statistics
        with ThreadPoolExecutor(1) as beside:  # the network leaves a part of the cores idle
            measured = beside.submit(measure_stems, stems)
            mix, seconds = self._mix_alone(stems, options, reference)
            report = describe(measured.result(), mix, statistics)
        self.deadline.check()
        suffix = f".{options.output_format}"
        if clipped := audio.clipping(mix.audio, suffix):
            report.warnings.append(f"mix: {clipped}")
        matched = None
        if isinstance(mix, MatchedMix):
            matched = mix.match.model_dump()
            report.warnings.extend(f"{REFERENCE}: {remark}" for remark in mix.match.remarks)
        with self.record.phase("encode"):
            content = encode(mix.audio, options.sample_rate, suffix, options.bits)
        self.record.note(max(stem.shape[1] for stem in stems.values()) / SAMPLE_RATE, report)
        self.model.offer(lambda: ShadowSong(stems, mix.audio, options, reference, statistics, self.record.version))
        answer = {"mix": content, "sample_rate": options.sample_rate, "seconds": seconds, "reference": matched}
        return answer | asdict(report)

    def _mix_alone(
        self, stems: dict[str, np.ndarray], options: MixOptions, reference: Reference | None
    ) -> tuple[DeliveredMix, float]:
        """A mix, and the seconds that it took."""
        submitted = time.perf_counter()

        def mix() -> tuple[DeliveredMix, float]:
            start = time.perf_counter()
            self.record.phases["wait"] += start - submitted
            self.deadline.check()
            mixer = TimedMixer.of(self.served.mixer, self.record)
            mixed = mixer.keeping(options.keep).mix(
                stems,
                SAMPLE_RATE,
                bool(options.dry),
                options.seed,
                progress=self.deadline.check,
                song=options.song,
            )
            with self.record.phase("encode"):
                delivered = delivered_mix(mixed, options, mixer.recipe.statistics, reference)
            return delivered, time.perf_counter() - start

        return self.model.mix_alone(mix, self.deadline)


def _warm_up(mixer: Mixer) -> bool:
    """Compile the loops of the effects, which takes longer than many a mix, before the first request.

    Returns:
        whether the mix is to be heard.

    Raises:
        ModelError: the mix is damaged.
    """
    generator = np.random.default_rng(0)
    shape = (2, round(_WARM_UP_SECONDS * SAMPLE_RATE))
    stems = {stem: 0.1 * generator.standard_normal(shape).astype(np.float32) for stem in STEMS}
    statistics = mixer.recipe.statistics
    mix = deliver(mixer.mix(stems, SAMPLE_RATE, dry=True), Delivery(_WARM_UP_LOUDNESS), statistics)
    describe(measure_stems(stems), mix, statistics)
    return bool(mix.audio.any())


def _limits() -> Limits:
    return Limits.from_environment(os.environ, MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())


def _nothing() -> None:
    """Nothing counts."""


mlflow.models.set_model(StemMixer())
