"""What the page lets its users take up. Whatever passes a limit is refused with a sentence that names it."""

from dataclasses import dataclass

from fxnorm.io.audio import AUDIO_SUFFIXES, RATES, DecodingLimits

CHUNK_BYTES = 4 * 2**20
"""The most that one request uploads."""
JSON_BYTES = 2**20
"""The largest body of any other request: a table of a thousand tracks takes a third of it."""
BODY_SECONDS = 60.0
"""How long a request's body may take to arrive."""
MOST_SAMPLES = 2**20
"""Samples of one piece of audio."""

_TRIED_SUFFIXES = (".wav", ".flac", ".mp3")
_FRAME_BYTES = 8  # two channels of float32


@dataclass(frozen=True)
class Limits:
    """Limits of the page.

    Attributes:
        files: of a session, with those of its zip archives.
        file_bytes: of one file.
        session_bytes: of a session's files together.
        seconds: of a song.
        sessions: of one user.
        all_sessions: of all users together.
        waiting: mixes that wait while another one is made.
        mixes: of a session.
        keep_hours: from the last use of a session until it is removed.
        suffixes: of the audio files that are taken.
        tried_formats: whether of all decoders only those of WAV, FLAC and MP3 see a file, which were tried on hostile
            ones; what a file is called says nothing of what it is.
    """

    files: int = 200
    file_bytes: int = 2 * 2**30
    session_bytes: int = 8 * 2**30
    seconds: float = 1_200.0
    sessions: int = 8
    all_sessions: int = 64
    waiting: int = 16
    mixes: int = 20
    keep_hours: float = 24.0
    suffixes: tuple[str, ...] = AUDIO_SUFFIXES
    tried_formats: bool = False

    @classmethod
    def of_strangers(cls, keep_hours: float) -> "Limits":
        """Those of a page that others than its owner can reach."""
        return cls(keep_hours=keep_hours, suffixes=_TRIED_SUFFIXES, tried_formats=True, file_bytes=512 * 2**20)

    @property
    def decoding(self) -> DecodingLimits:
        """Of one track."""
        return DecodingLimits(self.seconds, round(self.seconds * max(RATES) * _FRAME_BYTES))
