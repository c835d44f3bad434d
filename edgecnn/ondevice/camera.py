"""Pictures from a Raspberry Pi's camera, by picamera2 (a package of Raspberry Pi OS, not of pip)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Iterator, Tuple

from edgecnn.ondevice import scratch
from edgecnn.ondevice.manifest import DeviceError


def frames(n_frames: int) -> Iterator[Tuple[Path, float]]:
    """`n_frames` pictures, each as a file that is there until the next one, and the milliseconds it took.

    Raises DeviceError where there is no camera.
    """
    try:
        from picamera2 import Picamera2
    except ImportError as fault:
        raise DeviceError(
            f"the camera needs picamera2 ({fault})",
            "sudo apt install python3-picamera2, and a Python that sees the system's packages:"
            " edgecnn doctor --target T --fix makes one",
        ) from fault
    try:
        camera = Picamera2()
        camera.configure(camera.create_still_configuration())
        camera.start()
    except Exception as fault:  # libcamera raises RuntimeError, IndexError and others
        raise DeviceError(f"the camera does not start: {fault}", "check its cable: rpicam-hello") from fault
    try:
        with scratch.folder() as folder:
            for index in range(n_frames):
                picture = folder / f"frame-{index}.jpg"
                start = time.perf_counter()
                camera.capture_file(str(picture))
                yield picture, (time.perf_counter() - start) * 1e3
                picture.unlink()
    finally:
        camera.stop()
