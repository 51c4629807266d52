"""Probes videos: size in pixels, frames and bytes, and whether the frame count is exact."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.decoder import DecodingError, count_frames
from piapi_mcp.media.mp4 import Movie, Track, read_movie
from piapi_mcp.media.parsing import InvalidMediaError
from piapi_mcp.media.sources import MediaFile

_ENCRYPTED = ("encv", "drmi")


@dataclass(frozen=True)
class VideoFacts:
    """One MP4 video, as its boxes describe it."""

    width_px: int
    height_px: int
    """As stored; players may rotate it."""
    stored_frames: int
    shown_frames: int
    """Fewer than the stored frames if an edit list hides some of them."""
    frames_are_exact: bool
    """False if the boxes are ambiguous (edit lists, fragments) and the file could not be demuxed either."""
    codec: str
    """Four characters, such as `avc1` for H.264."""
    size_bytes: int


def probe_video(media: MediaFile) -> VideoFacts:
    """Probe the MP4 file *media*, in another process if its boxes are ambiguous. Blocks: call it in a thread.

    Raises:
        InputRejectedError: It is not a valid MP4 video.
    """
    try:
        movie = read_movie(media.read_at, media.size_bytes)
        facts = facts_from_movie(movie, media.size_bytes)
        if movie.is_truncated or not facts.frames_are_exact:
            facts = _verify_by_demuxing(media, facts, is_truncated=movie.is_truncated)
    except InvalidMediaError as error:
        raise video_rejection(media.label, error) from None
    return facts


def video_rejection(label: str, why: InvalidMediaError) -> InputRejectedError:
    """Return the error for a video that cannot be used and that errors refer to as *label*."""
    return InputRejectedError(
        f"{label} cannot be used as a video: {why}. PiAPI accepts MP4 only. Nothing was submitted; "
        "convert it to MP4 (H.264) and call again."
    )


def facts_from_movie(movie: Movie, size_bytes: int) -> VideoFacts:
    """Return the facts that the boxes of a video contain.

    Raises:
        InvalidMediaError: It has no video track that can be used.
    """
    videos = [track for track in movie.tracks if track.kind == "vide" and track.width_px and track.height_px]
    if not videos:
        raise InvalidMediaError("it has no video track")
    video = max(videos, key=lambda track: track.width_px * track.height_px)
    if video.codec in _ENCRYPTED:
        raise InvalidMediaError("it is encrypted")
    if not video.samples:
        raise InvalidMediaError("it has no frames")
    return VideoFacts(
        width_px=video.width_px,
        height_px=video.height_px,
        stored_frames=video.samples,
        shown_frames=video.samples,
        frames_are_exact=not movie.is_fragmented and _shows_every_frame(movie, video),
        codec=video.codec,
        size_bytes=size_bytes,
    )


def _verify_by_demuxing(media: MediaFile, facts: VideoFacts, *, is_truncated: bool) -> VideoFacts:
    try:
        count = count_frames(media)
    except DecodingError:
        raise InvalidMediaError("it is damaged and cannot be read") from None
    if count is None and not is_truncated:
        return facts
    if count is None or count.stored_frames < facts.stored_frames:
        raise InvalidMediaError("it is truncated")
    if not count.shown_frames:
        raise InvalidMediaError("it shows no frame")
    return replace(
        facts,
        width_px=max(facts.width_px, count.width_px),
        height_px=max(facts.height_px, count.height_px),
        stored_frames=count.stored_frames,
        shown_frames=count.shown_frames,
        frames_are_exact=True,
    )


def _shows_every_frame(movie: Movie, track: Track) -> bool:
    """Return whether the edit list certainly keeps every frame. Which ones it hides, only demuxing shows."""
    edits = [edit for edit in track.edits if edit[1] >= 0]  # the others only delay the video
    if not track.edits:
        return True
    if len(edits) != 1 or sum(count for count, _ in track.durations()) != track.samples:
        return False
    duration, first = edits[0]
    unit = track.timescale / (movie.timescale or 1)  # the movie counts time in coarser units than the track
    last = first + (duration - 1) * unit
    decoded = 0
    for length, delay in zip(_expand(track.durations()), chain(_expand(track.offsets()), repeat(0)), strict=False):
        if not first <= decoded + delay <= last:
            return False
        decoded += length
    return True


def _expand(runs: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield the value of each run as often as its count says."""
    return chain.from_iterable(repeat(value, count) for count, value in runs)
