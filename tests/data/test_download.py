"""Downloads from a server on this machine that behaves as badly as servers do."""

import hashlib
import http.server
import io
import multiprocessing
import random
import socket
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from edgecnn.data import archives, download
from edgecnn.errors import DataError
from edgecnn.progress import Silent

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


def send(handler: Handler, body: bytes, status: int = 200, **headers: object) -> None:
    """Any status, any headers (Content_Length=...), then `body`; the connection is closed after it."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def whole(content: bytes = CONTENT) -> Answer:
    """A server that knows nothing of Range."""
    return lambda handler: send(handler, content, Content_Length=len(content))


def well_behaved(content: bytes = CONTENT, etag: str = '"1"') -> Answer:
    """A server that does as RFC 9110 says."""

    def answer(handler: Handler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if handler.headers.get("If-Range", etag) != etag:
            start = 0
        rest, headers = content[start:], {"ETag": etag, "Content_Length": len(content) - start}
        if start >= len(content):
            send(handler, b"", 416, Content_Length=0)
        elif start:
            part = f"bytes {start}-{len(content) - 1}/{len(content)}"
            send(handler, rest, 206, Content_Range=part, **headers)
        else:
            send(handler, rest, **headers)

    return answer


def breaks_off_after(n_bytes: int, content: bytes = CONTENT, etag: str = '"1"') -> Answer:
    """The whole file is announced, its first `n_bytes` come."""
    return lambda handler: send(handler, content[:n_bytes], Content_Length=len(content), ETag=etag)


def fails(status: int) -> Answer:
    return lambda handler: send(handler, b"<html>no</html>", status, Content_Length=15)


@dataclass
class Server:
    """Gives the `answers` in turn, the last one ever again; keeps the headers of the requests."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()

    class Scripted(Handler):
        def do_GET(self) -> None:  # noqa: N802
            served.requests.append(self.headers)
            answer = served.answers.pop(0) if len(served.answers) > 1 else served.answers[0]
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client had enough

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Tests print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as listening:
        served.url = f"http://127.0.0.1:{listening.server_port}/digits.bin"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        listening.shutdown()
        thread.join()


@dataclass
class Watched:
    """Progress that remembers what it was told."""

    events: list[tuple[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def start(self, title: str, total: int) -> None:
        self.events.append((title, total))

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self.events.append(("advance", steps))

    def finish(self, detail: str = "") -> None:
        self.events.append(("finish", detail))

    def say(self, line: str) -> None:
        self.said.append(line)


def fetch(server: Server, folder: Path, **options: Any) -> Path:
    """`fetch` of CONTENT as it is, but for the waits."""
    options = {"sha256": SHA256, "pauses_s": (0.01, 0.01), "timeout_s": 5.0, **options}
    return download.fetch(server.url, folder / "digits.bin", **options)


def refusal(server: Server, folder: Path, **options: Any) -> str:
    """The message of a download that fails; there must be nothing under the final name."""
    with pytest.raises(DataError) as fault:
        fetch(server, folder, **options)
    assert not (folder / "digits.bin").exists()
    message = str(fault.value)
    assert server.url in message
    assert f"download the file elsewhere and lay it into the data folder as {folder / 'digits.bin'}" in message
    return message


def test_a_file_comes_whole_and_its_bar_counts_kilobytes(server: Server, tmp_path: Path) -> None:
    server.answers = [well_behaved()]
    watched = Watched()
    path = fetch(server, tmp_path / "new" / "folder", progress=watched)
    assert path == tmp_path / "new" / "folder" / "digits.bin"
    assert path.read_bytes() == CONTENT
    assert watched.events[0] == ("download digits.bin", 300)
    assert sum(steps for name, steps in watched.events if name == "advance") == 300
    assert watched.events[-1] == ("finish", "300.0 kB")
    assert not path.with_name("digits.bin.part").exists()


def test_a_file_that_is_there_needs_no_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / "digits.bin").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["digits.bin"], "works in a folder that is read-only"


def test_another_file_of_that_name_is_neither_used_nor_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "digits.bin").write_bytes(b"laid here by hand")
    with pytest.raises(DataError, match="not the file that it should be") as fault:
        fetch(server, tmp_path)
    assert str(tmp_path / "digits.bin") in str(fault.value)
    assert hashlib.sha256(b"laid here by hand").hexdigest() in str(fault.value)
    assert f"remove it, and it is downloaded again from {server.url}" in str(fault.value)
    assert (tmp_path / "digits.bin").read_bytes() == b"laid here by hand"


def test_the_first_eight_digits_of_the_hash_are_enough(server: Server, tmp_path: Path) -> None:
    server.answers = [whole()]
    assert fetch(server, tmp_path, sha256=SHA256[:8].upper()).read_bytes() == CONTENT
    for too_short in (SHA256[:7], "", SHA256 + "0", "see the website"):
        with pytest.raises(ValueError, match="not a sha256 of 8 to 64 hex digits"):
            fetch(server, tmp_path, sha256=too_short)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.answers = [breaks_off_after(100_000), well_behaved()]
    watched = Watched()
    assert fetch(server, tmp_path, progress=watched).read_bytes() == CONTENT
    assert [request["Range"] for request in server.requests] == [None, "bytes=100000-"]
    assert server.requests[1]["If-Range"] == '"1"'
    said = "digits.bin: the connection broke off at 100.0 kB of 300.0 kB; next try in 0.01 s"
    assert watched.said == [said]
    second_bar = watched.events[watched.events.index(("download digits.bin", 300), 1) :]
    assert second_bar[1] == ("advance", 100), "the bar begins where the first one ended"
    assert sum(steps for name, steps in second_bar if name == "advance") == 300


def test_the_next_call_goes_on_where_the_last_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.answers = [breaks_off_after(100_000)]
    message = refusal(server, tmp_path, pauses_s=())
    assert "the connection broke off at 100.0 kB of 300.0 kB (tries: 1)" in message
    server.answers = [well_behaved()]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=100000-"


def test_a_part_that_is_whole_needs_no_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / "digits.bin.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == []


def test_a_server_that_ignores_range_starts_over(server: Server, tmp_path: Path) -> None:
    server.answers = [breaks_off_after(100_000), whole()]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["Range"] == "bytes=100000-"


def test_a_server_that_sends_another_piece_starts_over(server: Server, tmp_path: Path) -> None:
    def wrong_piece(handler: Handler) -> None:
        headers = {"Content_Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"}
        send(handler, CONTENT[5:], 206, Content_Length=len(CONTENT) - 5, **headers)

    server.answers = [breaks_off_after(100_000), wrong_piece, well_behaved()]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[2]["Range"] is None


def test_a_part_longer_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "digits.bin.part").write_bytes(CONTENT + b"more")
    server.answers = [well_behaved()]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [request["Range"] for request in server.requests] == ["bytes=300004-", None]


def test_a_file_that_changes_between_two_pieces_is_not_glued(server: Server, tmp_path: Path) -> None:
    server.answers = [breaks_off_after(100_000, bytes(300_000), '"old"'), well_behaved(etag='"new"')]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 2, "If-Range alone tells the server to send all of it"


def test_a_part_of_another_file_is_found_out_by_the_hash(server: Server, tmp_path: Path) -> None:
    (tmp_path / "digits.bin.part").write_bytes(bytes(1000))  # of an earlier call: its ETag is forgotten
    server.answers = [well_behaved()]
    watched = Watched()
    assert fetch(server, tmp_path, progress=watched).read_bytes() == CONTENT
    assert [request["Range"] for request in server.requests] == ["bytes=1000-", None]
    assert "the file at the server is not the one that was begun: starting over" in watched.said[0]


def test_wrong_contents_are_refused_with_both_hashes_and_thrown_away(server: Server, tmp_path: Path) -> None:
    page = b"<html>Please log in to the network</html>"
    server.answers = [whole(page)]
    message = refusal(server, tmp_path)
    found = hashlib.sha256(page).hexdigest()
    assert f"the server has another file: its sha256 is {found}, expected {SHA256}" in message
    assert not (tmp_path / "digits.bin.part").exists()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "reason", "n_requests"),
    [
        (404, "Not Found", 1),
        (403, "Forbidden", 1),
        (503, "Service Unavailable", 3),
        (429, "Too Many Requests", 3),
    ],
)
def test_a_server_that_refuses_is_quoted(
    server: Server, tmp_path: Path, status: int, reason: str, n_requests: int
) -> None:
    server.answers = [fails(status)]
    assert f"the server answers {status} {reason}" in refusal(server, tmp_path)
    assert len(server.requests) == n_requests, "only what may pass is tried again"


def test_a_server_that_recovers_is_forgiven(server: Server, tmp_path: Path) -> None:
    server.answers = [fails(503), well_behaved()]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_announces_more_than_it_has_is_told(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda handler: send(handler, CONTENT[:-1], Content_Length=400_000)]
    assert "the connection broke off at 300.0 kB of 400.0 kB (tries: 3)" in refusal(server, tmp_path)


def test_a_server_that_announces_less_than_it_sends_is_told(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda handler: send(handler, CONTENT, Content_Length=200_000)]
    found = hashlib.sha256(CONTENT[:200_000]).hexdigest()
    assert f"its sha256 is {found}" in refusal(server, tmp_path)


def test_a_file_announced_as_too_large_is_not_begun(server: Server, tmp_path: Path) -> None:
    server.answers = [well_behaved()]
    message = refusal(server, tmp_path, max_bytes=200_000)
    assert "the server announces 300.0 kB: the file may have 200.0 kB at the most" in message
    assert not (tmp_path / "digits.bin.part").exists()
    refusal(server, tmp_path, max_bytes=299_999)
    assert fetch(server, tmp_path, max_bytes=300_000).read_bytes() == CONTENT


def test_a_server_that_never_ends_is_cut_off(server: Server, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        send(handler, b"")
        for _ in range(300):  # 30 MB stand for no end: a client that takes it all fails, and the disk lives
            handler.wfile.write(bytes(100_000))

    server.answers = [endless]
    message = refusal(server, tmp_path, max_bytes=1_000_000)
    assert "the server sends more: the file may have 1.00 MB at the most" in message
    assert not (tmp_path / "digits.bin.part").exists()
    assert len(server.requests) == 1


def test_a_file_of_unknown_length_comes_whole(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda handler: send(handler, CONTENT)]
    watched = Watched()
    assert fetch(server, tmp_path, progress=watched).read_bytes() == CONTENT
    assert watched.events[-1] == ("finish", "300.0 kB")


def test_a_chunk_that_breaks_off_is_taken_up(server: Server, tmp_path: Path) -> None:
    def half_a_chunk(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        send(handler, b"", Transfer_Encoding="chunked", Connection="close")
        handler.wfile.write(f"{len(CONTENT):x}\r\n".encode() + CONTENT[:100_000])

    server.answers = [half_a_chunk, well_behaved()]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("n_bytes", [None, 100_000], ids=["before the answer", "in the middle"])
def test_a_server_that_hangs_is_not_waited_for(server: Server, tmp_path: Path, n_bytes: int | None) -> None:
    over = threading.Event()

    def hangs(handler: Handler) -> None:
        if n_bytes:
            breaks_off_after(n_bytes)(handler)
            handler.wfile.flush()
        over.wait(30)

    server.answers = [hangs]
    started = time.monotonic()
    try:
        message = refusal(server, tmp_path, timeout_s=0.2, pauses_s=(0.01,))
    finally:
        over.set()
    assert "no answer from the server within 0.2 s (tries: 2)" in message
    assert time.monotonic() - started < 10


def test_no_server_at_all_is_told(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        nobody = Server(url=f"http://127.0.0.1:{unused.getsockname()[1]}/digits.bin")
        assert "no connection to the server: [Errno 111] Connection refused (tries: 3)" in refusal(
            nobody, tmp_path
        )


def test_no_network_is_told_at_once(tmp_path: Path) -> None:
    nowhere = Server(url="http://no-such-host.invalid/digits.bin")
    started = time.monotonic()
    assert "no connection to the server: " in refusal(nowhere, tmp_path, pauses_s=(100.0,))
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://example.org/digits.bin",
        "digits.bin",
        "http://",
        "http://[::1/digits.bin",
        "http://example.org:port/digits.bin",
        "http://example.org/two words",
        "http://example.org/bücher",
        "http://example.org/a\r\nHost: b",
    ],
)
def test_only_addresses_of_the_web_are_opened(tmp_path: Path, url: str) -> None:
    assert "not an http or https address" in refusal(Server(url=url), tmp_path)


def test_a_redirect_is_followed_within_the_web_alone(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda handler: send(handler, b"", 302, Location=server.url + "?2"), well_behaved()]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    server.answers = [lambda handler: send(handler, b"", 302, Location="ftp://127.0.0.1/digits.bin")]
    message = refusal(server, tmp_path / "other")
    assert "the server answers 302 redirects to ftp://127.0.0.1/digits.bin" in message


def test_a_redirect_out_of_tls_is_refused() -> None:
    redirects = download._Redirects()
    secure = urllib.request.Request("https://example.org/a")
    with pytest.raises(urllib.error.HTTPError, match=r"redirects to http://example\.org/b"):
        redirects.redirect_request(secure, io.BytesIO(), 302, "Found", Message(), "http://example.org/b")
    followed = redirects.redirect_request(
        secure, io.BytesIO(), 302, "Found", Message(), "https://example.org/b"
    )
    assert followed is not None
    assert followed.full_url == "https://example.org/b"


def test_a_folder_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="the download cannot be written") as fault:
        fetch(server, tmp_path / "data" / "digits")
    assert str(tmp_path / "data" / "digits" / "digits.bin") in str(fault.value)
    assert "choose a data folder that can be written" in str(fault.value)


class Telling(Silent):
    """Progress that tells another process."""

    def __init__(self, said: "multiprocessing.Queue[str]") -> None:
        self._said = said

    def finish(self, detail: str = "") -> None:
        self._said.put(f"done {detail}")

    def say(self, line: str) -> None:
        self._said.put(line)


def fetch_in_a_process(url: str, folder: Path, said: "multiprocessing.Queue[str]") -> None:
    download.fetch(url, folder / "digits.bin", sha256=SHA256, progress=Telling(said))


def test_two_processes_that_want_one_file_download_it_once(server: Server, tmp_path: Path) -> None:
    another_waits = threading.Event()

    def slow(handler: Handler) -> None:
        send(handler, CONTENT[:1000], Content_Length=len(CONTENT))
        handler.wfile.flush()
        another_waits.wait(60)
        handler.wfile.write(CONTENT[1000:])

    server.answers = [slow]
    spawn = multiprocessing.get_context("spawn")
    said = spawn.Queue()
    arguments = (server.url, tmp_path, said)
    processes = [spawn.Process(target=fetch_in_a_process, args=arguments, daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    try:
        assert said.get(timeout=60) == "another process downloads digits.bin: waiting for it"
    finally:
        another_waits.set()
        for process in processes:
            process.join(60)
    assert said.get(timeout=60) == "done 300.0 kB"
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "digits.bin").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_an_archive_with_paths_that_lead_out_writes_nothing_there(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("../outside.txt", "/tmp/outside.txt", "../../digits/data.bin"):
            info = tarfile.TarInfo(name)
            info.size = len(CONTENT)
            tar.addfile(info, io.BytesIO(CONTENT))
    server.answers = [whole(packed.getvalue())]
    folder = tmp_path / "data"
    archive = fetch(server, folder, sha256=hashlib.sha256(packed.getvalue()).hexdigest())
    with pytest.raises(DataError, match=r"the archive has no digits/data\.bin"):
        archives.extract(archive, folder, members={"digits/data.bin": SHA256})
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"data/digits.bin", "data/.digits.bin.lock"}
