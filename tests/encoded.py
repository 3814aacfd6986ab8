"""Files of compressed audio, made with FFmpeg's own encoders through PyAV."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fxnorm.constants import SAMPLE_RATE


def write(
    path: Path,
    container: str,
    codec: str,
    streams: Sequence[np.ndarray],
    sample_rate: int = SAMPLE_RATE,
    sample_format: str | None = None,
    start: int = 0,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a file with one audio stream for each array (channels, samples).

    Args:
        path: the file.
        container: FFmpeg's name of the muxer.
        codec: FFmpeg's name of the encoder.
        streams: float32 arrays.
        sample_rate: of all, in Hz.
        sample_format: FFmpeg's name of the encoder's input; by default the encoder's own.
        start: samples from the container's beginning to the first.
        options: of the muxer.

    Returns:
        ``path``.
    """
    with av.open(str(path), "w", format=container, options=dict(options or {})) as file:
        added = []
        for samples in streams:
            stream = file.add_stream(codec, rate=sample_rate)
            assert isinstance(stream, av.AudioStream)
            stream.layout = "mono" if len(samples) == 1 else "stereo" if len(samples) == 2 else "5.1"
            stream.bit_rate = 256_000
            if sample_format is not None:
                stream.format = sample_format
            added.append(stream)
        for stream, samples in zip(added, streams, strict=True):
            name = sample_format or stream.codec_context.format.name
            scaled = _scaled(samples, name)
            shaped = scaled if name.endswith("p") else scaled.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(shaped), format=name, layout=stream.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
            fifo = av.AudioFifo()
            fifo.write(frame)
            size = stream.codec_context.frame_size or 1024
            while (part := fifo.read(size) or fifo.read(size, partial=True)) is not None:
                assert part.pts is not None
                part.pts += start
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
    return path


def stem_mp4(path: Path, streams: Sequence[np.ndarray]) -> Path:
    """An MP4 with AAC streams, as MUSDB18's ``.stem.mp4`` files are."""
    return write(path, "mp4", "aac", streams)


def _scaled(samples: np.ndarray, name: str) -> np.ndarray:
    if name.startswith("s16"):
        return np.round(samples * 2.0**15).astype(np.int16)
    if name.startswith("s32"):  # 24 bits, as libsndfile's PCM_24, in the upper ones
        return (np.round(samples.astype(np.float64) * 2**23).astype(np.int64) * 2**8).astype(np.int32)
    return samples.astype(np.float32)
