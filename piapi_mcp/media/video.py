"""What a video is: its size in pixels, frames and bytes, and how sure that is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.media.boxes import BrokenFileError, Movie, Track, read_movie
from piapi_mcp.media.sources import MediaFile


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
    """False where the boxes leave room for doubt: several edits, fragments."""
    codec: str
    """Four characters, such as `avc1` for H.264."""
    rotation_degrees: int
    duration_s: float
    """Of the picture, in seconds; 0 where it is not told."""
    has_audio: bool
    size_bytes: int


def probe_video(media: MediaFile) -> VideoFacts:
    """Return what the MP4 file *media* is.

    Raises:
        InputRejectedError: It is no MP4 video that can be understood.
    """
    try:
        movie = read_movie(media.read_at, media.size_bytes)
    except BrokenFileError as error:
        raise _rejected(media, str(error)) from None
    if movie.is_truncated:
        raise _rejected(media, "it is cut off before its end")
    video = next((track for track in movie.tracks if track.kind == "vide"), None)
    if video is None or not video.width_px or not video.height_px:
        raise _rejected(media, "it has no video track")
    shown = _shown_frames(movie, video)
    return VideoFacts(
        width_px=video.width_px,
        height_px=video.height_px,
        stored_frames=video.samples,
        shown_frames=video.samples if shown is None else shown,
        frames_are_exact=shown is not None,
        codec=video.codec,
        rotation_degrees=video.rotation_degrees,
        duration_s=sum(count * duration for count, duration in video.durations) / video.timescale,
        has_audio=any(track.kind == "soun" for track in movie.tracks),
        size_bytes=media.size_bytes,
    )


def _rejected(media: MediaFile, why: str) -> InputRejectedError:
    return InputRejectedError(
        f"{media.label} cannot be used as a video: {why}. PiAPI accepts MP4 only. Nothing was submitted; "
        "convert it to MP4 (H.264) and call again."
    )


def _shown_frames(movie: Movie, track: Track) -> int | None:
    """Count the frames that the edit list leaves; None where only a decoder could say."""
    if movie.is_fragmented:
        return None
    edits = [edit for edit in track.edits if edit[1] >= 0]  # the others only delay the picture
    if not edits:
        return track.samples
    if len(edits) > 1 or sum(count for count, _ in track.durations) != track.samples:
        return None
    duration, first = edits[0]
    last = first + duration * track.timescale / (movie.timescale or 1)
    if not duration:  # 0: to the end
        last = float("inf")
    decoded, shown = 0, 0
    for length, late in zip(_runs(track.durations), _with_default(track), strict=False):
        # Half a frame of room: the movie counts time in coarser units than the track.
        shown += first <= decoded + late < last - length / 2
        decoded += length
    return shown


def _runs(pairs: Iterable[tuple[int, int]]) -> Iterator[int]:
    return chain.from_iterable(repeat(value, count) for count, value in pairs)


def _with_default(track: Track) -> Iterator[int]:
    return chain(_runs(track.offsets), repeat(0))
