"""Where measuring happens: `open_target` gives a `target.Target`, this machine or a board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn import target_file
from edgecnn.targets.host import HostTarget
from edgecnn.targets.micro import MicroTarget
from edgecnn.targets.remote import RemoteTarget
from edgecnn.targets.ssh import Connection
from edgecnn.targets.target import Target

TARGETS: dict[str, Callable[[], Target]] = {target_file.HOST: HostTarget, MicroTarget.name: MicroTarget}


@dataclass(frozen=True)
class SSHOptions:
    """What a command line says of ssh; `say` tells the user of a host key that was taken."""

    config: Path | None = None
    accept_new_host_key: bool = False
    say: Callable[[str], None] = lambda _: None


def open_target(name: str, ssh: SSHOptions | None = None) -> Target:
    """The machine of that name: `host`, `tflm`, user@host, or a name in targets.yaml. Nothing is connected yet.

    Raises UsageError for a name that is not known.
    """
    if name in TARGETS:
        return TARGETS[name]()
    ssh = ssh or SSHOptions()
    address = target_file.address(name)
    if ssh.config:
        address = replace(address, ssh_config=ssh.config)
    return RemoteTarget(address, Connection(address, accept_new_host_key=ssh.accept_new_host_key, say=ssh.say))
