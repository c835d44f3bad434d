"""ProxyCommand `flaky_proxy.py HOST PORT CUT_BYTES close|stall COUNT_FILE`: a link that is cut.

It ends when CUT_BYTES have gone to the board; COUNT_FILE tells how many have.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path


def main(host: str, port: str, cut_bytes: str, mode: str, count_file: str) -> None:
    link = socket.create_connection((host, int(port)))
    threading.Thread(target=_bring_back, args=(link,), daemon=True).start()
    limit, sent = int(cut_bytes), 0
    while block := os.read(0, 4096):
        link.sendall(block[: limit - sent])
        sent += len(block)
        _keep(Path(count_file), sent)
        if sent >= limit:
            if mode == "stall":
                time.sleep(600)
            os._exit(0)


def _keep(count_file: Path, sent: int) -> None:
    """Renamed into place: a test may read it at any moment."""
    temporary = count_file.with_name(f"{count_file.name}.{os.getpid()}")
    temporary.write_text(str(sent))
    temporary.replace(count_file)


def _bring_back(link: socket.socket) -> None:
    while block := link.recv(65536):
        os.write(1, block)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
