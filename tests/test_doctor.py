"""What is found on a machine, and what the user is told to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import pytest
from cli.commands import run, told

from edgecnn import doctor
from edgecnn.doctor import Finding, findings, fitting_packages
from edgecnn.target_file import Address
from edgecnn.targets.remote import RemoteTarget
from edgecnn.targets.ssh import Connection

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
    monkeypatch.setattr(doctor, "inspect", lambda _: SimpleNamespace(format="tflite", layers=layers))
    told_of = list(doctor._operators(Path("net.tflite"), {"packages": packages}))
    assert [(one.status, one.found) for one in told_of] == [(status, found) for status, found, _ in expected]
    for one, (_, _, words) in zip(told_of, expected, strict=True):
        assert words in one.advice if words and one.advice else words is one.advice is None


def one_node(opset: int, ir_version: int) -> bytes:
    """An .onnx file that says it is of these versions."""
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([relu], "g", [x], [y]))
    model.ir_version, model.opset_import[0].version = ir_version, opset
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("release", "opset", "ir_version", "status", "words"),
    [
        ("1.19.2", 21, 10, "ok", ""),
        ("1.19.2", 22, 10, "lacks", "not opset 22"),
        ("1.19.2", 17, 11, "lacks", "not IR version 11"),
        ("1.16.3", 20, 10, "lacks", "not opset 20, IR version 10"),
        ("1.24.4", 25, 13, "ok", ""),
        ("1.24.4", 26, 10, "lacks", "not opset 26"),
        ("1.28.0", 25, 13, "ok", ""),
        ("1.28.0", 26, 10, "note", "opset 26"),
        ("1.32.0", 28, 14, "ok", ""),
        ("1.99.0", 28, 14, "ok", ""),
        ("1.99.0", 40, 20, "note", "opset 40, IR version 20"),
        ("1.2.0", 11, 6, "note", "opset 11"),
        ("unknown", 17, 8, "note", "opset 17"),
        (None, 17, 8, "lacks", "on onnxruntime"),
    ],
)
def test_versions_of_onnx_that_the_runtime_there_loads(
    release: str | None, opset: int, ir_version: int, status: str, words: str, tmp_path: Path
):
    (tmp_path / "net.onnx").write_bytes(one_node(opset, ir_version))
    packages = {} if release is None else {"onnxruntime": release}
    (finding,) = doctor._operators(tmp_path / "net.onnx", {"packages": packages})
    assert (finding.status, finding.advice is None) == (status, status == "ok") and words in finding.found


def test_the_newest_row_is_what_the_installed_onnxruntime_loads():
    since, opset, ir_version = doctor._ONNXRUNTIME[0]
    if doctor._release(onnxruntime.__version__) < since:
        pytest.skip("an older onnxruntime")
    onnxruntime.InferenceSession(one_node(opset, ir_version))


A_PYTHON_OF_ITS_OWN = "--fix installs in ~/edgecnn/venv only: after it, write python: ~/edgecnn/venv/bin/python"


@pytest.mark.parametrize(
    ("python", "changes", "is_told"),
    [
        ("~/py/bin/python", {"python_path": "/home/pi/py/bin/python", "packages": {}}, True),
        ("~/py/bin/python", {"python_path": "/home/pi/py/bin/python"}, False),  # it lacks nothing
        ("~/edgecnn/venv/bin/python", {"packages": {}}, False),
        (None, {"python_path": "/usr/bin/python3", "packages": {}}, False),
    ],
)
def test_what_fix_installs_is_not_for_a_python_that_the_target_names(
    python: str | None, changes: dict[str, Any], is_told: bool, monkeypatch: pytest.MonkeyPatch
):
    address = Address("pi4", "board", python=python)
    target = RemoteTarget(address, Connection(address))
    monkeypatch.setattr(target, "survey", lambda: {**PI_4, **changes})
    found = doctor.examine(target)
    target.close()
    told_of = [one for one in found if (one.advice or "").startswith(A_PYTHON_OF_ITS_OWN)]
    assert len(told_of) == is_told


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
