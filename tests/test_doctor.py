"""What is found on a machine, and what the user is told to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli.commands import run, told

from edgecnn import doctor
from edgecnn.doctor import Finding, findings, fitting_packages

PI_4: dict[str, Any] = {
    "arch": "aarch64",
    "bits": 64,
    "board_model": "Raspberry Pi 4 Model B Rev 1.4",
    "cpu_model": "Cortex-A72",
    "n_cores": 4,
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.6",
    "python": "3.11.2",
    "python_path": "/home/pi/edgecnn/venv/bin/python",
    "in_venv": True,
    "has_venv_module": True,
    "externally_managed": True,
    "packages": {"numpy": "1.24.2", "ai-edge-litert": "2.3.0", "pillow": "9.4.0"},
    "has_picamera2": False,
    "memory_bytes": 4 * 10**9,
    "disk_free_bytes": 20 * 10**9,
    "governor": "performance",
    "emulated": False,
    "load_1min": 0.1,
    "clock_mhz": 1500.0,
    "temperature_c": 50.0,
    "throttle_flags": 0,
}


def found(**changes: Any) -> dict[str, Finding]:
    return {one.about: one for one in findings({**PI_4, **changes})}


def test_a_board_in_order():
    assert {one.status for one in found().values()} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "about", "status", "words"),
    [
        ({"packages": {}}, "numpy", "lacks", "--fix"),
        ({"packages": {"numpy": "1.24.2"}}, "runtimes", "lacks", "--fix"),
        ({"packages": {"numpy": "2.1", "tflite-runtime": "2.14.0"}}, "numpy", "lacks", 'pip install "numpy<2"'),
        ({"packages": {"numpy": "1.26"}}, "Pillow", "note", "PNG and JPEG"),
        ({"in_venv": False, "packages": {}}, "Python", "note", "--fix makes a venv"),
        (
            {"in_venv": False, "has_venv_module": False, "packages": {}},
            "Python",
            "note",
            "apt install python3-venv",
        ),
        ({"bits": 32, "arch": "armv7l"}, "machine", "note", "64-bit image"),
        ({"bits": 32, "arch": "armv7l", "python": "3.13.1"}, "machine", "lacks", "64-bit image"),
        ({"bits": 32, "arch": "armv6l"}, "machine", "lacks", "64-bit image"),
        ({"memory_bytes": 350 * 10**6}, "memory", "note", "desktop"),
        ({"disk_free_bytes": 10**8}, "disk", "note", "free some space"),
        ({"governor": "ondemand"}, "clock", "note", "sudo tee"),
        ({"throttle_flags": 0x50005}, "throttling", "note", "slowed down now"),
        ({"throttle_flags": 0x50000}, "throttling", "note", "was slowed down"),
        ({"temperature_c": 79.0}, "throttling", "note", "cooling"),
        ({"emulated": True}, "emulation", "note", "mean nothing"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(changes: dict[str, Any], about: str, status: str, words: str):
    finding = found(**changes)[about]
    assert finding.status == status and words in (finding.advice or "")


def layer(operator: str, version: int) -> Any:
    return SimpleNamespace(operator=operator, version=version)


@pytest.mark.parametrize(
    ("packages", "layers", "expected"),
    [
        ({"ai-edge-litert": "2.3.0"}, [layer("CONV_2D", 8)], [("ok", "on ai-edge-litert 2.3.0", None)]),
        (
            {"tflite-runtime": "2.14.0"},
            [layer("CONV_2D", 8)],
            [("lacks", "on tflite-runtime 2.14.0: not CONV_2D version 8", "--runtime tflite-runtime==2.14")],
        ),
        (
            {"ai-edge-litert": "2.3.0"},
            [layer("CONV_2D", 3), layer("SVDF", 4), layer("CUSTOM:Own", 1)],
            [
                ("ok", "on ai-edge-litert 2.3.0", None),
                ("note", "it has CUSTOM:Own, SVDF", "edgecnn benchmark MODEL"),
            ],
        ),
        ({}, [layer("CONV_2D", 1)], [("lacks", "no TFLite runtime", "--fix")]),
    ],
)
def test_operators_that_the_runtimes_there_have(
    packages: dict[str, str], layers: list[Any], expected: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(doctor, "inspect", lambda _: SimpleNamespace(layers=layers))
    told_of = list(doctor._operators(Path("net.tflite"), {"packages": packages}))
    assert [(one.status, one.found) for one in told_of] == [(status, found) for status, found, _ in expected]
    for one, (_, _, words) in zip(told_of, expected, strict=True):
        assert words in one.advice if words and one.advice else words is one.advice is None


def test_what_fits():
    assert fitting_packages(PI_4) == ("ai-edge-litert", "onnxruntime", "pillow")
    assert fitting_packages({**PI_4, "bits": 32, "arch": "armv7l"}) == ("tflite-runtime", "numpy<2", "pillow")
    assert fitting_packages({**PI_4, "bits": 32, "arch": "armv7l", "python": "3.13.0"}) is None
    assert fitting_packages({**PI_4, "bits": 32, "arch": "armv6l"}) is None


def test_this_machine_is_examined_and_never_changed():
    result = run("doctor", "--json")
    assert result.exit_code == 0 and '"about": "runtimes"' in result.stdout
    result = run("doctor", "--fix")
    assert result.exit_code == 2 and "this machine is not changed" in told(result)
