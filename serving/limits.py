"""What the endpoint lets a request use. Every limit is an environment variable of the server, and this is their list.

Memory at worst, beside the model: one mix, which for ten minutes of four stereo stems takes about 2 GB with the decoded
stems, or those that its tracks were summed to (``max_seconds`` and ``max_decoded_mb`` bound it; a file's own samples
are resampled block by block, and only an MP3's are in memory as a whole beside the result); the decoded stems of
another song, which is mixed next, with one source and one track beside them while tracks are summed; up to nine times
their bodies for these two, which together are no larger than one may be; four times its body for another one that is
checked, and for each one that waits (``max_waiting``) its body. Another model in the shadow keeps ``FXNORM_SHADOW_MB``
of songs, and mixes one of them when no request is in the server.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fxnorm.errors import SettingsError, printable
from fxnorm.io.audio import MAX_CHANNELS
from fxnorm.sessions.table import MOST_TRACKS

_PREFIX = "FXNORM_"
_MOST = "FXNORM_MAX_"  # whoever misspells one of these would think that the limit holds
_BYTES_PER_MB = 1_000_000
_SHARE_OF_SERVER_TIME = 0.95
"""Ours ends a little before MLflow's, whose own 504 leaves the mix running."""


_Megabytes = Annotated[float, Field(gt=0, le=1e9)]


def _listed(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


class Limits(BaseModel):
    """Limits by field; ``max_request_mb`` is read from ``FXNORM_MAX_REQUEST_MB``, and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_request_mb: _Megabytes = 256.0
    """Megabytes of a request's body, and of the objects that its URIs name: five minutes of four stems as FLAC."""
    max_rows: Annotated[int, Field(ge=1)] = 8
    """Songs of a request."""
    max_tracks: Annotated[int, Field(ge=1, le=MOST_TRACKS)] = 128
    """Tracks of a song that comes as a session."""
    max_track_seconds: Annotated[float, Field(gt=0)] = 15_000.0
    """Of all tracks of a request together: 60 tracks of four minutes, which take a minute and a half of one core before
    they are mixed."""
    max_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Of all songs of a request together; and as much again of the references that they are brought to."""
    max_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = MAX_CHANNELS
    """Of a stem."""
    max_decoded_mb: _Megabytes = 1_000.0
    """Megabytes of a song's stems as float32, each at the file's own rate or at 44.1 kHz, whichever is more.
    Noise takes a few times the size of its FLAC, and silence thousands of times."""
    max_waiting: Annotated[int, Field(ge=0)] = 8
    """Requests that wait while another is mixed; the next is answered 503. Songs are mixed one at a time, because one
    uses all cores; ``mlflow models serve --workers`` mixes more, each with limits of its own."""
    timeout_seconds: Annotated[float, Field(gt=0)]
    """From a request's arrival to its answer; the default is 95 % of ``mlflow models serve --timeout``."""
    s3_prefixes: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Where the columns ``vocals_uri`` and so on may point, such as ``s3://bucket/stems, s3://other``; by default
    nowhere. The server's own credentials read them."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], server_timeout: float) -> Self:
        """Limits of a server.

        Args:
            environment: variables by name.
            server_timeout: seconds after which MLflow's server itself gives up on a request.

        Raises:
            SettingsError: a value that a limit cannot take, or a limit that does not exist; one line that names the
                variable.
        """
        known = {_PREFIX + field.upper() for field in cls.model_fields}
        if misspelt := sorted(name for name in environment if name.startswith(_MOST) and name not in known):
            raise SettingsError(
                f"{printable(misspelt[0])}: unknown, expected some of "
                f"{', '.join(sorted(name for name in known if name.startswith(_MOST)))}"
            )
        variables = {
            field: environment[name] for field in cls.model_fields if (name := _PREFIX + field.upper()) in environment
        }
        try:
            limits = cls.model_validate({"timeout_seconds": _SHARE_OF_SERVER_TIME * server_timeout} | variables)
        except ValidationError as error:
            first = error.errors()[0]
            name = _PREFIX + str(first["loc"][0]).upper()
            raise SettingsError(f"{name}={printable(str(first['input']))}: {first['msg']}") from error
        if limits.timeout_seconds > server_timeout:
            raise SettingsError(
                f"{_PREFIX}TIMEOUT_SECONDS={limits.timeout_seconds:g}: more than the server's own {server_timeout:g}; "
                "raise that with 'mlflow models serve --timeout'"
            )
        for prefix in limits.s3_prefixes:
            if not prefix.startswith("s3://") or not prefix.removeprefix("s3://").strip("/"):
                raise SettingsError(f"{_PREFIX}S3_PREFIXES: {prefix}: expected a prefix such as s3://bucket/stems")
        return limits

    @property
    def request_bytes(self) -> int:
        """``max_request_mb`` in bytes."""
        return round(self.max_request_mb * _BYTES_PER_MB)

    @property
    def decoded_bytes(self) -> int:
        """``max_decoded_mb`` in bytes."""
        return round(self.max_decoded_mb * _BYTES_PER_MB)
