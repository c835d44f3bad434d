"""What machine this is, and in which state: read from /proc and /sys. None is what cannot be read."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple


def probe(root: Path = Path("/")) -> Dict[str, Any]:
    """The machine and its software. `root` is where /proc and /sys are looked for."""
    # Here, so that the rest of this file can be used where numpy is missing.
    import numpy as np

    from edgecnn.ondevice.runtimes import installed_versions

    return {
        "cpu_model": cpu_model(root),
        "arch": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "n_cores": usable_cores(),
        "memory_bytes": memory_bytes(root),
        "board_model": board_model(root),
        "os": os_name(root),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runtimes": installed_versions(),
        "boot_id": _text(root / "proc/sys/kernel/random/boot_id"),
        "emulated": is_emulated(root),
        **conditions(root),
    }


def conditions(root: Path = Path("/")) -> Dict[str, Any]:
    """What changes from minute to minute: load, governor, clock, temperature, throttling."""
    return {
        "governor": governor(root),
        "load_1min": load_1min(root),
        "clock_mhz": clock_mhz(root),
        "temperature_c": temperature_c(root),
        "throttle_flags": throttle_flags(root),
    }


def board_model(root: Path) -> Optional[str]:
    """Such as "Raspberry Pi 4 Model B Rev 1.4". /proc/device-tree is a link to the folder in /sys."""
    for folder in ("proc/device-tree", "sys/firmware/devicetree/base"):
        if found := _text(root / folder / "model"):
            return found
    return None


def usable_cores() -> int:
    """Cores that this process may run on; a container or `taskset` may have left it fewer than there are."""
    cores = affinity()
    return len(cores) if cores else os.cpu_count() or 1


def affinity() -> Optional[List[int]]:
    """The numbers of those cores; None where the system does not tell (not Linux)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def cpu_model(root: Path) -> Optional[str]:
    """`model name` on x86 and 32-bit Arm; 64-bit Arm gives part numbers only, which tell cores apart too."""
    fields = _cpu_fields(root)
    if fields.get("model name"):
        return fields["model name"]
    implementer, part = _core(fields)
    if part:
        known = ARM_PARTS.get(part) if implementer == "0x41" else None
        return known or f"implementer {implementer} part {part}"
    return platform.processor() or None


def _cpu_fields(root: Path) -> Dict[str, str]:
    """What /proc/cpuinfo says of the first core."""
    fields: Dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _core(fields: Dict[str, str]) -> Tuple[Optional[str], Optional[str]]:
    """Implementer and part number of an Arm core."""
    return fields.get("CPU implementer"), fields.get("CPU part")


# CPU part -> core of implementer 0x41 (Arm): MIDR_EL1 in the cores' technical reference manuals.
ARM_PARTS = {
    "0xb76": "ARM1176",
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd41": "Cortex-A78",
}


def governor(root: Path) -> Optional[str]:
    return _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def clock_mhz(root: Path) -> Optional[float]:
    khz = _number(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if khz is not None:
        return khz / 1000
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        if line.startswith("cpu MHz"):
            return float(line.partition(":")[2])
    return None


def temperature_c(root: Path) -> Optional[float]:
    millidegrees = _number(root / "sys/class/thermal/thermal_zone0/temp")
    return None if millidegrees is None else millidegrees / 1000


def throttle_flags(root: Path) -> Optional[int]:
    """A Raspberry Pi's flags: bits 0-3 under-voltage, capped, throttled, hot now; bits 16-19 since boot.

    From the firmware's file in /sys, whose place differs from board to board, else from `vcgencmd`.
    """
    for path in sorted(root.glob("sys/devices/platform/soc*/soc*firmware/get_throttled")):
        text = _text(path)
        if text is not None:
            return _hexadecimal(text)
    tool = shutil.which("vcgencmd") if root == Path("/") else None
    if tool is None:
        return None
    try:
        said = subprocess.run(
            [tool, "get_throttled"], stdout=subprocess.PIPE, timeout=5, text=True, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _hexadecimal(said.partition("=")[2].strip())


def _hexadecimal(text: str) -> Optional[int]:
    try:
        return int(text, 16)
    except ValueError:
        return None


def load_1min(root: Path) -> Optional[float]:
    text = _text(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def memory_bytes(root: Path) -> Optional[int]:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def os_name(root: Path) -> str:
    for line in (_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return platform.system()


def is_emulated(root: Path = Path("/")) -> bool:
    """Whether qemu computes here in place of the processor that is told: then milliseconds mean nothing.

    Told by three signs. qemu-user: uname is the emulator's, but /proc/sys/kernel/arch is the real kernel's. The
    core `-cpu max` of a whole emulated machine, which nobody makes. And qemu's own Arm machine (`virt`): its
    device tree names qemu.

    What cannot be told, and is taken for real: qemu-user on a kernel before 6.1, which has no such file; a
    whole machine built after a real one (`-M raspi3b`), with that one's device tree and core; a `virt` that
    starts by UEFI and has no device tree; x86, but for `-cpu max`. The other way round, `virt` under KVM is
    taken for emulated, though it computes with the real processor. Signs of any virtual machine (DMI, a device
    tree that says linux,dummy-virt) prove nothing: machines of clouds show them, too.
    """
    real = _text(root / "proc/sys/kernel/arch")
    if real is not None and _kernel_family(real) != _kernel_family(platform.machine()):
        return True
    fields = _cpu_fields(root)
    if "QEMU TCG CPU" in fields.get("model name", "") or _core(fields) == QEMU_MAX:
        return True
    # qemu cannot emulate Apple's cores: on those, its machine runs by itself.
    return _is_tree_of_qemu(root) and fields.get("CPU implementer") != APPLE


# CPU implementer and CPU part that qemu gives `-cpu max` (target/arm/tcg/cpu64.c: 0 and "Q"), and Apple's.
QEMU_MAX = ("0x00", "0x051")
APPLE = "0x61"


def _is_tree_of_qemu(root: Path) -> bool:
    """As systemd-detect-virt tells it: no other tree has the device by which qemu hands its guest files."""
    tree = root / "proc/device-tree"
    names = f"{_text(tree / 'model')} {_text(tree / 'compatible')}".lower()
    return "qemu" in names or next(tree.glob("fw-cfg*"), None) is not None


def _kernel_family(machine: str) -> str:
    """One name for what one kernel may run natively: 64-bit kernels run 32-bit userlands, too."""
    machine = machine.lower()
    if machine.startswith(("arm", "aarch64")):
        return "arm"
    if machine in ("x86_64", "amd64", "x86") or (machine.startswith("i") and machine.endswith("86")):
        return "x86"
    return machine


def _text(path: Path) -> Optional[str]:
    try:
        text = path.read_bytes().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return None
    return text or None


def _number(path: Path) -> Optional[float]:
    text = _text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
