"""What the page lets its users take up. Whatever passes a limit is refused with a sentence that names it."""

from dataclasses import dataclass

from fxnorm.io.audio import AUDIO_SUFFIXES

CHUNK_BYTES = 4 * 2**20
"""The most that one request uploads."""
JSON_BYTES = 2**20
"""The largest body of any other request: a table of a thousand tracks takes a third of it."""
BODY_SECONDS = 60.0
"""How long a request's body may take to arrive."""
MOST_SAMPLES = 2**20
"""Samples of one piece of audio."""

_SAFE_SUFFIXES = (".wav", ".flac", ".mp3")


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

    @classmethod
    def of_strangers(cls, keep_hours: float) -> "Limits":
        """Those of a page that others than its owner can reach: of all decoders, the three that hostile files were
        tried on."""
        return cls(keep_hours=keep_hours, suffixes=_SAFE_SUFFIXES)
