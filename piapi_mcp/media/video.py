"""What a video is: its size in pixels, frames and bytes, and how sure that is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.decoder import DecodingError, count_frames
from piapi_mcp.media.mp4 import Movie, Track, read_movie
from piapi_mcp.media.reading import BrokenFileError
from piapi_mcp.media.sources import MediaFile

_CUT_OFF = "it is cut off before its end"
_ENCRYPTED = ("encv", "drmi")


@dataclass(frozen=True)
class VideoFacts:
    """One MP4 video, as its boxes describe it."""

    width_px: int
    height_px: int
    """As stored; players may turn it, see `rotation_degrees`."""
    stored_frames: int
    shown_frames: int
    """Fewer than stored where an edit list cuts some off."""
    frames_are_exact: bool
    """False where the boxes leave room for doubt (cuts, fragments) and the file could not be read through either."""
    codec: str
    """Four characters, such as `avc1` for H.264."""
    rotation_degrees: int
    """How far players turn the image, clockwise: 0, 90, 180 or 270."""
    duration_s: float
    """Of the image, in seconds; 0 where it is not told."""
    has_audio: bool
    size_bytes: int

    @property
    def fps(self) -> float:
        """Frames a second, on average; 0 where the duration is not told."""
        return self.shown_frames / self.duration_s if self.duration_s else 0.0


def probe_video(media: MediaFile) -> VideoFacts:
    """Return what the MP4 file *media* is. Reads it, where there is doubt in another process: call it in a thread.

    Raises:
        InputRejectedError: It is no MP4 video that can be understood.
    """
    try:
        movie = read_movie(media.read_at, media.size_bytes)
        facts = facts_of(movie, media.size_bytes)
        if movie.is_truncated or not facts.frames_are_exact:
            facts = _read_through(media, facts, is_truncated=movie.is_truncated)
    except BrokenFileError as error:
        raise not_a_video(media.label, error) from None
    return facts


def not_a_video(label: str, why: BrokenFileError) -> InputRejectedError:
    """Return the refusal of what errors call *label*."""
    return InputRejectedError(
        f"{label} cannot be used as a video: {why}. PiAPI accepts MP4 only. Nothing was submitted; "
        "convert it to MP4 (H.264) and call again."
    )


def facts_of(movie: Movie, size_bytes: int) -> VideoFacts:
    """Return what the boxes of a video say.

    Raises:
        BrokenFileError: There is no image in it.
    """
    videos = [track for track in movie.tracks if track.kind == "vide" and track.width_px and track.height_px]
    if not videos:
        raise BrokenFileError("it has no video track")
    video = max(videos, key=lambda track: track.width_px * track.height_px)
    if video.codec in _ENCRYPTED:
        raise BrokenFileError("it is encrypted")
    if not video.samples:
        raise BrokenFileError("it has no frames")
    return VideoFacts(
        width_px=video.width_px,
        height_px=video.height_px,
        stored_frames=video.samples,
        shown_frames=video.samples,
        frames_are_exact=not movie.is_fragmented and _shows_all(movie, video),
        codec=video.codec,
        rotation_degrees=video.rotation_degrees,
        duration_s=_duration_s(movie, video),
        has_audio=any(track.kind == "soun" for track in movie.tracks),
        size_bytes=size_bytes,
    )


def _read_through(media: MediaFile, facts: VideoFacts, *, is_truncated: bool) -> VideoFacts:
    try:
        counted = count_frames(media)
    except DecodingError:
        raise BrokenFileError("it is damaged and cannot be read through") from None
    if counted is None and not is_truncated:
        return facts
    if counted is None or counted.stored_frames < facts.stored_frames:
        raise BrokenFileError(_CUT_OFF)
    if not counted.shown_frames:
        raise BrokenFileError("it shows no frame")
    return replace(
        facts,
        width_px=max(facts.width_px, counted.width_px),
        height_px=max(facts.height_px, counted.height_px),
        stored_frames=counted.stored_frames,
        shown_frames=counted.shown_frames,
        frames_are_exact=True,
        duration_s=counted.duration_s,
    )


def _duration_s(movie: Movie, track: Track) -> float:
    """Return how long the image is shown; the table tells how long it is decoded, which differs a little."""
    if track.edits and movie.timescale:
        return sum(duration for duration, start in track.edits if start >= 0) / movie.timescale
    return sum(count * duration for count, duration in track.durations()) / track.timescale


def _shows_all(movie: Movie, track: Track) -> bool:
    """Say whether the edit list surely leaves all frames in; which ones it cuts off, only reading it through tells."""
    edits = [edit for edit in track.edits if edit[1] >= 0]  # the others only delay the image
    if not track.edits:
        return True
    if len(edits) != 1 or sum(count for count, _ in track.durations()) != track.samples:
        return False
    duration, first = edits[0]
    unit = track.timescale / (movie.timescale or 1)  # the movie counts time in coarser units than the track
    last = first + (duration - 1) * unit
    decoded = 0
    for length, late in zip(_runs(track.durations()), chain(_runs(track.offsets()), repeat(0)), strict=False):
        if not first <= decoded + late <= last:
            return False
        decoded += length
    return True


def _runs(pairs: Iterable[tuple[int, int]]) -> Iterator[int]:
    return chain.from_iterable(repeat(value, count) for count, value in pairs)
