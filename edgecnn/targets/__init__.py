"""Where measuring happens. A target is a class with the methods of `host.HostTarget`."""

from __future__ import annotations

from edgecnn.targets.host import HostTarget

TARGETS = {"host": HostTarget}
