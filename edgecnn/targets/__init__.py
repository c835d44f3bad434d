"""Where measuring happens: `open_target` gives a `target.Target`, this machine or a board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn import target_file
from edgecnn.errors import UsageError
from edgecnn.targets.host import HostTarget
from edgecnn.targets.remote import RemoteTarget
from edgecnn.targets.ssh import Connection
from edgecnn.targets.target import Target

MICRO = "tflm"
"""Stands for TFLite Micro on this machine, which tells the memory of a model and nothing else: no Target."""


@dataclass(frozen=True)
class SSHOptions:
    """What a command line says of ssh; `say` tells the user of a host key that was taken."""

    config: Path | None = None
    accept_new_host_key: bool = False
    say: Callable[[str], None] = lambda _: None


def open_target(name: str, ssh: SSHOptions | None = None) -> Target:
    """The machine of that name: `host`, user@host, or a name in targets.yaml. Nothing is connected yet.

    Raises UsageError for a name that is not known, and for `tflm`.
    """
    if name == target_file.HOST:
        return HostTarget()
    if name == MICRO:
        raise UsageError(
            f"{MICRO} is TFLite Micro on this machine: it tells the memory of a model, and does nothing else",
            fix=f"edgecnn benchmark MODEL.tflite --target {MICRO}",
        )
    ssh = ssh or SSHOptions()
    address = target_file.address(name)
    if ssh.config:
        address = replace(address, ssh_config=ssh.config)
    return RemoteTarget(address, Connection(address, accept_new_host_key=ssh.accept_new_host_key, say=ssh.say))
