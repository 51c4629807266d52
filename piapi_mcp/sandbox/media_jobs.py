"""Media work: probes, enlarges and draws images and videos, with one child process per job.

The process that hosts the sandbox never loads FFmpeg or an image library, so media that crash them crash only a job.
`run` and `run_async` start a job; `python -m piapi_mcp.sandbox.media_jobs` is the child.
"""

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from av.container import InputContainer

JOB_TIMEOUT_S = 180.0

_PROBE_MEMORY_BYTES = 600 * 2**20
"""Address space of a probe, the first job to open untrusted media: FFmpeg fits, a forged sample table does not."""
_WORK_MEMORY_BYTES = 3 * 2**30
"""Address space of any other job: an image with sides of 2048 px has sides of 16384 px after an 8x upscale."""
_CPU_LIMIT_S = 600
_FILE_LIMIT_BYTES = 2**30
_ENCODER_THREADS = 4
"""More threads take memory on every core and gain little speed."""

# FFmpeg has hundreds of decoders; these are the ones that an MP4 can reasonably need.
_CODECS = "h264,hevc,vp9,libdav1d,av1,mpeg4,mjpeg,aac,mp3,opus,ac3,alac,flac"

MediaJob = Literal["probe", "upscale_video", "enlarge", "draw_grid", "crop_quadrant", "make_clip"]


class MediaJobError(Exception):
    """The job failed."""


def run(job: MediaJob, **arguments: Any) -> dict[str, Any]:
    """Run *job* as `run_async` does, for callers without an event loop. Blocks.

    Raises:
        MediaJobError: The job failed.
    """
    import asyncio

    return asyncio.run(run_async(job, **arguments))


async def run_async(
    job: MediaJob, on_progress: Callable[[int], None] | None = None, **arguments: Any
) -> dict[str, Any]:
    """Run *job* in a child process and return its result; cancelling the call kills the child.

    The file *target* in *arguments*, if there is one, appears when it is complete, or not at all.

    Args:
        job: The name of the job.
        on_progress: Called with the percentage that is done.
        arguments: The arguments of the job's function in this module.

    Raises:
        MediaJobError: The job failed or took too long; the message is the child's error.
    """
    import asyncio  # not at module level: the child does not need it, and one starts for every job

    with _write_target_atomically(arguments):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "piapi_mcp.sandbox.media_jobs", json.dumps({"job": job, **arguments})),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # what the libraries print about broken media is noise in any log
            env={name: value for name, value in os.environ.items() if not name.startswith("PIAPI_")},
        )
        try:
            async with asyncio.timeout(JOB_TIMEOUT_S):
                return await _read_messages(child, on_progress)
        except TimeoutError:
            raise MediaJobError("the job took too long") from None
        except ValueError:
            raise MediaJobError("the job sent an invalid message") from None
        finally:
            await _kill(child)


async def _kill(child: "Process") -> None:
    """Kill *child* if it is still running."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


@contextmanager
def _write_target_atomically(arguments: dict[str, Any]) -> Generator[None]:
    """Have the *target* in *arguments*, if there is one, written under another name and renamed when it is complete."""
    if "target" not in arguments:
        yield
        return
    target = Path(arguments["target"])
    part = target.with_name(f"{target.name}.{os.urandom(4).hex()}.part")
    arguments["target"] = str(part)
    try:
        yield
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


async def _read_messages(child: "Process", on_progress: Callable[[int], None] | None) -> dict[str, Any]:
    """Read the messages of *child*, one line of JSON each, and return the last one: the result."""
    assert child.stdout is not None  # noqa: S101 -- the child was started with a pipe
    last: dict[str, Any] = {"error": "the job ended without a result"}
    async for line in child.stdout:
        last = json.loads(line)
        if on_progress and "progress" in last:
            on_progress(last["progress"])
    await child.wait()
    if "error" in last or "progress" in last:
        raise MediaJobError(last.get("error", "the job ended early"))
    return last


def _open_mp4(path: str) -> "InputContainer":
    """Open an untrusted MP4: no other format, no file or URL that it names, no unusual decoder."""
    import av

    options = {"codec_whitelist": _CODECS, "protocol_whitelist": "none"}
    return av.open(Path(path).open("rb"), "r", format="mp4", options=options, metadata_errors="replace")


def _probe(path: str) -> dict[str, Any]:
    """Return format and size of a video or image; of a video also frames, frame rate and whether it has audio."""
    from PIL import Image

    with Path(path).open("rb") as file:
        is_mp4 = file.read(12)[4:8] == b"ftyp"
    if not is_mp4:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            return {"format": image.format, "width": image.width, "height": image.height}
    with _open_mp4(path) as container:
        stream = container.streams.video[0]
        frames = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
        rate = stream.average_rate
        return {
            "format": "MP4",
            "width": stream.codec_context.width,
            "height": stream.codec_context.height,
            "frames": frames,
            "fps": float(rate) if rate else 0.0,
            "has_audio": bool(container.streams.audio),
        }


def _read_rotation(source: str) -> int:
    """Return by how many degrees players rotate a video."""
    with _open_mp4(source) as container:
        return next(container.decode(video=0)).rotation


def _upscale_video(source: str, target: str) -> dict[str, Any]:
    """Double width and height of a video; keep the times of its frames and copy its audio."""
    import av
    from av.video.reformatter import Interpolation, VideoReformatter

    with _open_mp4(source) as before, av.open(target, "w", format="mp4") as after:
        video = before.streams.video[0]
        audio_streams = {stream.index: after.add_stream_from_template(stream) for stream in before.streams.audio}
        width, height = video.codec_context.width * 2, video.codec_context.height * 2
        output = after.add_stream("libx264", rate=video.average_rate, options={"preset": "veryfast", "crf": "20"})
        output.width, output.height, output.pix_fmt = width, height, "yuv420p"
        output.codec_context.thread_count = _ENCODER_THREADS
        output.set_display_rotation(_read_rotation(source))
        if video.time_base is not None:
            output.time_base = output.codec_context.time_base = video.time_base
        reformatter, total, done = VideoReformatter(), max(1, video.frames), 0
        for packet in before.demux(video, *before.streams.audio):
            if packet.stream.index in audio_streams:
                if packet.dts is not None:
                    packet.stream = audio_streams[packet.stream.index]
                    after.mux(packet)
                continue
            for frame in cast("list[av.VideoFrame]", packet.decode()):
                larger = reformatter.reformat(
                    frame, width=width, height=height, format="yuv420p", interpolation=Interpolation.LANCZOS
                )
                larger.pts, larger.time_base = frame.pts, frame.time_base
                larger.pict_type = 0  # otherwise the encoder places key frames where the source had them
                after.mux(output.encode(larger))
                done += 1
                _send_message({"progress": min(99, 100 * done // total)})
        after.mux(output.encode(None))
    return {"width": width, "height": height, "frames": done}


def _enlarge(source: str, target: str, factor: int) -> dict[str, Any]:
    """Enlarge an image by *factor*."""
    from PIL import Image

    with Image.open(source, formats=["JPEG", "PNG"]) as image:
        larger = image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
    larger.save(target, "PNG", compress_level=1)
    return {"width": larger.width, "height": larger.height}


def _crop_quadrant(source: str, target: str, number: int) -> dict[str, Any]:
    """Crop image *number* (1 to 4, row by row) of a grid and enlarge it to the grid's size."""
    from PIL import Image

    with Image.open(source, formats=["PNG"]) as grid:
        width, height = grid.width // 2, grid.height // 2
        left, top = (number - 1) % 2 * width, (number - 1) // 2 * height
        image = grid.convert("RGB").crop((left, top, left + width, top + height))
        larger = image.resize(grid.size, Image.Resampling.LANCZOS)
    larger.save(target, "PNG", compress_level=1)
    return {"width": larger.width, "height": larger.height}


def _draw_grid(target: str, seed: int) -> dict[str, Any]:
    """Draw a landscape at four times of day as a Midjourney grid, two by two."""
    from PIL import Image, ImageDraw

    side = 256
    skies = [((255, 176, 120), (90, 60, 120)), ((150, 205, 250), (60, 120, 190))]
    skies += [((250, 120, 90), (60, 30, 80)), ((40, 50, 90), (10, 12, 30))]
    grid = Image.new("RGB", (2 * side, 2 * side))
    for number, (low, high) in enumerate(skies):
        image = Image.new("RGB", (side, side))
        draw = ImageDraw.Draw(image)
        for y in range(side):
            mix = y / side
            draw.line((0, y, side, y), tuple(int(up + (down - up) * mix) for down, up in zip(low, high, strict=True)))
        sun = (40 + 45 * number, 50 + 12 * seed)
        draw.ellipse((sun[0] - 22, sun[1] - 22, sun[0] + 22, sun[1] + 22), (255, 240, 200))
        for ridge in range(3):
            base = side * (6 + ridge) // 10
            ground = [(x, base + int(18 * (((x * (ridge + seed)) % 97) / 97 - 0.5))) for x in range(0, side + 8, 8)]
            shade = 70 - 20 * ridge
            draw.polygon([(0, side), *ground, (side, side)], (shade, shade + 25, shade + 10))
        grid.paste(image, (number % 2 * side, number // 2 * side))
    grid.save(target, "PNG", compress_level=1)
    return {"width": grid.width, "height": grid.height}


def _make_clip(target: str) -> dict[str, Any]:
    """Make a video of two seconds: a ball that bounces through a landscape, with a tone."""
    import math
    from array import array
    from fractions import Fraction

    import av
    from PIL import Image, ImageDraw

    width, height, frames, fps, rate = 320, 180, 48, 24, 48_000
    with av.open(target, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        tone = container.add_stream("aac", rate=rate, layout="mono")
        for number in range(frames):
            image = Image.new("RGB", (width, height), (120, 180, 230))
            draw = ImageDraw.Draw(image)
            draw.rectangle((0, 130, width, height), (80, 140, 70))
            x, y = 20 + number * 6, 100 - abs(int(50 * math.sin(number / 6)))
            draw.ellipse((x - 16, y, x + 16, y + 32), (220, 70, 60))
            frame = cast("av.VideoFrame", av.VideoFrame.from_image(image))
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, rate * frames // fps, 1024):
            wave = (int(6000 * math.sin(2 * math.pi * 330 * (start + i) / rate)) for i in range(1024))
            sound = av.AudioFrame(format="s16", layout="mono", samples=1024)
            sound.planes[0].update(array("h", wave).tobytes())
            sound.rate, sound.pts, sound.time_base = rate, start, Fraction(1, rate)
            container.mux(tone.encode(sound))
        container.mux(tone.encode(None))
    return {"width": width, "height": height, "frames": frames}


_JOB_FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "probe": _probe,
    "upscale_video": _upscale_video,
    "enlarge": _enlarge,
    "draw_grid": _draw_grid,
    "crop_quadrant": _crop_quadrant,
    "make_clip": _make_clip,
}


def _main() -> None:
    arguments = json.loads(sys.argv[1])
    job = arguments.pop("job")
    _limit_resources(_PROBE_MEMORY_BYTES if job == "probe" else _WORK_MEMORY_BYTES)
    try:
        result = _JOB_FUNCTIONS[job](**arguments)
    except Exception as error:  # noqa: BLE001 -- any exception from the libraries is the job's result
        result = {"error": f"{type(error).__name__}: {error}"[:500]}
    _send_message(result)


def _limit_resources(memory_bytes: int) -> None:
    """Limit memory, CPU time and file size, whatever the media make the libraries do."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limits; the job's timeout remains
    for name, limit in (("AS", memory_bytes), ("CPU", _CPU_LIMIT_S), ("FSIZE", _FILE_LIMIT_BYTES)):
        with suppress(ValueError, OSError):  # macOS rejects some of them
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


def _send_message(message: dict[str, Any]) -> None:
    """Send *message* to the parent process."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
