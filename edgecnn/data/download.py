"""Files from the network: resumed where they broke off, and under their own name only once their hash is right.

Range requests: RFC 9110, section 14 (Range, Content-Range) and 13.1.5 (If-Range).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

import filelock

from edgecnn.errors import DataError
from edgecnn.progress import Progress, Silent
from edgecnn.units import format_size

MAX_BYTES = 1_000_000_000
TIMEOUT_S = 30.0
# Waits before the second try, the third and so on.
PAUSES_S = (1.0, 2.0, 4.0)
_CHUNK_BYTES = 1 << 16
_SHA256 = re.compile(r"[0-9a-f]{8,64}")
# Request Timeout, Too Many Requests, and the server's own troubles: they may be over in a moment.
_PASSING_STATUSES = {408, 429, 500, 502, 503, 504}


class _BrokenOffError(Exception):
    """A try that failed in a way that the next one may not."""


@dataclass(frozen=True)
class _Download:
    """What is fetched, and the limits that it is held to."""

    url: str
    destination: Path
    sha256: str
    max_bytes: int
    timeout_s: float

    @property
    def part(self) -> Path:
        return self.destination.with_name(f"{self.destination.name}.part")

    @property
    def lock(self) -> Path:
        return self.destination.with_name(f".{self.destination.name}.lock")

    def refused(self, what: str) -> DataError:
        """The error for `what`, with the way that works without this server."""
        return DataError(
            what,
            where=self.url,
            fix=f"try again, or download the file elsewhere and lay it into the data folder "
            f"as {self.destination} (its sha256 begins with {self.sha256})",
        )


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str,
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = TIMEOUT_S,
    pauses_s: Sequence[float] = PAUSES_S,
) -> Path:
    """The file `destination`; downloaded from `url` (http or https) if it is not there yet.

    `sha256` is the hash of the file in hex digits, or its beginning (8 digits at least). What came before a
    connection broke stays in `destination`.part, and the next try or the next call goes on from there.
    `timeout_s` bounds the wait for each answer and for each piece; there are len(pauses_s) + 1 tries.
    A second process that wants the same file waits for the first one.

    Raises DataError for a server that does not give the file, and for a file with another hash.
    """
    sha256 = sha256.lower()
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"not a sha256 of 8 to 64 hex digits: {sha256!r}")
    download = _Download(url, destination, sha256, max_bytes, timeout_s)
    progress = progress or Silent()
    try:
        if _is_there(download):  # asked without the lock: the data folder may be read-only
            return destination
        _check_url(download)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone(download, progress):
            if not _is_there(download):
                _fetch_part(download, progress, pauses_s)
                download.part.replace(destination)
    except OSError as fault:  # the network's own were told before: this is the disk
        raise DataError(
            f"the download cannot be written: {fault.strerror or fault}",
            where=str(destination),
            fix="make room on the disk, or choose a data folder that can be written",
        ) from fault
    return destination


def _is_there(download: _Download) -> bool:
    """Whether the file is there already. Raises DataError, and leaves it, if it is another one."""
    if not download.destination.exists():
        return False
    found = _sha256_of(download.destination)
    if not found.startswith(download.sha256):
        raise DataError(
            f"not the file that it should be: its sha256 is {found}, expected {download.sha256}",
            where=str(download.destination),
            fix=f"remove it, and it is downloaded again from {download.url}",
        )
    return True


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:  # in pieces: it may be larger than the memory
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_url(download: _Download) -> None:
    try:
        parts = urlsplit(download.url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", download.url):
        raise download.refused("not an http or https address")


@contextmanager
def _alone(download: _Download, progress: Progress) -> Iterator[None]:
    lock = filelock.FileLock(download.lock)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress.say(f"another process downloads {download.destination.name}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch_part(download: _Download, progress: Progress, pauses_s: Sequence[float]) -> None:
    """Brings the whole file, verified, under the name of its part. Raises DataError after the last try."""
    validator = None
    for pause_s in (*pauses_s, None):
        if download.part.exists() and _sha256_of(download.part).startswith(download.sha256):
            return
        try:
            with _open(download, validator) as response:
                start = _first_byte(response, download)
                validator = _validator(response.headers)
                _receive(response, start, download, progress)
            _verify(download, start)
            progress.finish(format_size(_size(download.part)))
            return
        except _BrokenOffError as fault:
            if pause_s is None:
                raise download.refused(f"{fault} (tries: {len(pauses_s) + 1})") from fault
            progress.say(f"{download.destination.name}: {fault}; next try in {pause_s:g} s")
            time.sleep(pause_s)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another address, but not out of TLS: 8 digits of a hash prove too little."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("https", req.type):
            raise urllib.error.HTTPError(req.full_url, code, f"redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """urllib's opener for http and https alone; the ready-made one also opens file: and ftp: addresses."""
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", "edgecnn")]
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        _Redirects,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _open(download: _Download, validator: str | None) -> http.client.HTTPResponse:
    """The server's answer to a request for what is missing in the part.

    `validator` (ETag or date) stands for the file that the part is of: of another the server sends all.
    """
    request = urllib.request.Request(download.url)  # noqa: S310
    if n_bytes := _size(download.part):
        request.add_header("Range", f"bytes={n_bytes}-")
        if validator:
            request.add_header("If-Range", validator)
    with _network(download):
        return cast(http.client.HTTPResponse, _opener().open(request, timeout=download.timeout_s))


@contextmanager
def _network(download: _Download) -> Iterator[None]:
    """Tells faults of the network that may pass (_BrokenOffError) from those that stay (DataError)."""
    try:
        yield
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code == 416:  # the part is no beginning of what the server has
            download.part.unlink(missing_ok=True)
        elif fault.code not in _PASSING_STATUSES:
            raise download.refused(f"the server answers {fault.code} {fault.reason}") from fault
        raise _BrokenOffError(f"the server answers {fault.code} {fault.reason}") from fault
    except urllib.error.URLError as fault:
        if isinstance(fault.reason, socket.gaierror | ssl.SSLCertVerificationError):
            raise download.refused(f"no connection to the server: {fault.reason}") from fault
        raise _BrokenOffError(f"no connection to the server: {fault.reason}") from fault
    except TimeoutError as fault:
        raise _BrokenOffError(f"no answer from the server within {download.timeout_s:g} s") from fault
    except (OSError, http.client.HTTPException) as fault:
        raise _BrokenOffError(f"the connection broke off ({type(fault).__name__})") from fault


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_byte(response: http.client.HTTPResponse, download: _Download) -> int:
    """Where in the file the answer begins: at the end of the part, or at 0 if the server sends all of it."""
    if response.status == 200:
        return 0
    n_bytes = _size(download.part)
    if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {n_bytes}-"):
        return n_bytes
    download.part.unlink(missing_ok=True)
    raise _BrokenOffError(f"the server sends another piece than was asked for (status {response.status})")


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What If-Range may carry: a strong ETag, else the date of the file."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _receive(response: http.client.HTTPResponse, start: int, download: _Download, progress: Progress) -> None:
    """Appends the body of `response` to the first `start` bytes of the part, and shows it as kB."""
    total = None if response.length is None else start + response.length
    if total is not None and total > download.max_bytes:
        raise _too_large(download, f"the server announces {format_size(total)}")
    progress.start(f"download {download.destination.name}", (total or 0) // 1000)
    progress.advance(start // 1000, format_size(start))
    n_bytes = start
    with download.part.open("ab") as part:
        part.truncate(start)
        while chunk := _next_chunk(response, n_bytes, total, download):
            part.write(chunk)
            progress.advance(
                (n_bytes + len(chunk)) // 1000 - n_bytes // 1000, format_size(n_bytes + len(chunk))
            )
            n_bytes += len(chunk)
            if n_bytes > download.max_bytes:
                raise _too_large(download, "the server sends more")
        part.flush()
        os.fsync(part.fileno())
    if total is not None and n_bytes < total:
        raise _BrokenOffError(f"the connection broke off at {format_size(n_bytes)} of {format_size(total)}")


def _next_chunk(
    response: http.client.HTTPResponse, n_bytes: int, total: int | None, download: _Download
) -> bytes:
    """The next bytes of the body, up to the announced end; b"" at the end."""
    with _network(download):
        return response.read1(_CHUNK_BYTES if total is None else min(_CHUNK_BYTES, total - n_bytes))


def _too_large(download: _Download, what: str) -> DataError:
    download.part.unlink(missing_ok=True)
    return download.refused(f"{what}: the file may have {format_size(download.max_bytes)} at the most")


def _verify(download: _Download, start: int) -> None:
    """Removes a part with a wrong hash. One of several pieces is tried again: the file may have changed."""
    found = _sha256_of(download.part)
    if found.startswith(download.sha256):
        return
    download.part.unlink()
    if start:
        raise _BrokenOffError("the file at the server is not the one that was begun: starting over")
    raise download.refused(f"the server has another file: its sha256 is {found}, expected {download.sha256}")
