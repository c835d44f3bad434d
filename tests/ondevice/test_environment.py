"""What a machine tells of itself, read from planted /proc and /sys trees."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from edgecnn.ondevice import environment


def plant(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


PI_4 = {
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nprocessor\t: 1\n",
    "proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/meminfo": "MemTotal:        3884360 kB\nMemFree:  1 kB\n",
    "proc/loadavg": "0.52 0.58 0.59 1/467 12345\n",
    "proc/sys/kernel/random/boot_id": "f09b85e8-9561-442e-b353-72fe4c38d708\n",
    "proc/sys/kernel/arch": "aarch64\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/class/thermal/thermal_zone0/temp": "48686\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
}


def test_a_raspberry_pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    seen = environment.probe(plant(tmp_path, PI_4))
    assert seen["cpu_model"] == "Cortex-A72"
    assert seen["board_model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert seen["memory_bytes"] == 3884360 * 1024
    assert seen["governor"] == "ondemand" and seen["clock_mhz"] == 1500
    assert seen["temperature_c"] == 48.686 and seen["load_1min"] == 0.52
    assert seen["throttle_flags"] == 0x50005
    assert seen["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert seen["boot_id"].startswith("f09b85e8") and not seen["emulated"]


def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "processor", lambda: "")
    seen = environment.probe(tmp_path)
    unknown = (
        "cpu_model governor memory_bytes board_model boot_id load_1min clock_mhz temperature_c throttle_flags"
    )
    assert {name: seen[name] for name in unknown.split()} == dict.fromkeys(unknown.split())
    assert seen["emulated"] is False and seen["bits"] in (32, 64)


def test_unreadable_numbers_are_unknown(tmp_path: Path):
    plant(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": "hot",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "-",
            "proc/device-tree/model": b"",
        },
    )
    assert environment.temperature_c(tmp_path) is None
    assert environment.throttle_flags(tmp_path) is None
    assert environment.probe(tmp_path)["board_model"] is None


@pytest.mark.parametrize(
    ("machine", "kernel", "emulated"),
    [
        ("aarch64", "x86_64", True),
        ("armv7l", "x86_64", True),
        ("x86_64", "x86_64", False),
        ("i686", "x86_64", False),
        ("aarch64", "aarch64", False),
        ("armv7l", "aarch64", False),  # a 32-bit userland on a 64-bit kernel: Raspberry Pi OS
        ("armv8l", "aarch64", False),
        ("riscv64", "x86_64", True),
    ],
)
def test_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, kernel: str, emulated: bool):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert environment.is_emulated(plant(tmp_path, {"proc/sys/kernel/arch": kernel + "\n"})) is emulated


NEOVERSE = {"proc/cpuinfo": "CPU implementer : 0x41\nCPU part : 0xd0c\n"}
APPLE = {"proc/cpuinfo": "CPU implementer : 0x61\nCPU part : 0x000\n"}
DUMMY = {"proc/device-tree/compatible": b"linux,dummy-virt\0"}
FILES_OF_QEMU = {"proc/device-tree/fw-cfg@9020000/compatible": b""}


@pytest.mark.parametrize(
    ("planted", "emulated"),
    [
        ({"proc/cpuinfo": "CPU implementer : 0x00\nCPU part : 0x051\n"}, True),
        ({"proc/cpuinfo": "model name : QEMU TCG CPU version 2.5+\n"}, True),
        ({**DUMMY, **FILES_OF_QEMU}, True),
        ({"proc/device-tree/model": b"riscv-virtio,qemu\0"}, True),
        ({"proc/device-tree/compatible": b"qemu,pseries\0"}, True),
        # A Pi is what it says: qemu's raspi3b has the tree of one, and cannot be told from it.
        (PI_4, False),
        # Virtual machines that compute with the real processor: Firecracker, a cloud's, qemu's on a Mac.
        ({**DUMMY, **NEOVERSE}, False),
        ({"sys/class/dmi/id/sys_vendor": "QEMU\n", **NEOVERSE}, False),
        ({**DUMMY, **FILES_OF_QEMU, **APPLE}, False),
    ],
)
def test_signs_of_a_whole_machine_that_is_emulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: dict[str, str | bytes], emulated: bool
):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert environment.is_emulated(plant(tmp_path, planted)) is emulated


def test_cpu_names(tmp_path: Path):
    x86 = plant(
        tmp_path / "x86", {"proc/cpuinfo": "processor : 0\nmodel name\t: AMD EPYC: Zen\ncpu MHz : 2596.1\n"}
    )
    assert environment.cpu_model(x86) == "AMD EPYC: Zen"
    assert environment.clock_mhz(x86) == 2596.1
    other = plant(tmp_path / "b", {"proc/cpuinfo": "CPU implementer : 0x61\nCPU part : 0xd08\n"})
    assert environment.cpu_model(other) == "implementer 0x61 part 0xd08"


def test_cores_are_those_that_may_be_used():
    assert environment.usable_cores() == len(os.sched_getaffinity(0))


def test_this_machine_can_be_probed():
    seen = environment.probe()
    assert seen["n_cores"] >= 1 and seen["python"] == platform.python_version()
    assert "onnxruntime" in seen["runtimes"]


@pytest.mark.parametrize(
    ("said", "expected"), [("throttled=0x50005", 0x50005), ("throttled=0x0", 0), ("VCHI init failed", None)]
)
def test_throttling_is_asked_of_vcgencmd_where_sys_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: int | None
):
    tool = tmp_path / "vcgencmd"
    tool.write_text(f"#!/bin/sh\necho '{said}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert environment.throttle_flags(Path("/")) == expected


def test_the_flags_of_another_board_lie_elsewhere(tmp_path: Path):
    plant(tmp_path, {"sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "80000\n"})
    assert environment.throttle_flags(tmp_path) == 0x80000
