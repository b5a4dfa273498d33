from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import numpy as np
import pytest

from featherweight.data.download import LOCK_NAME, RemoteFile, download
from featherweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENTS = np.random.default_rng(0).integers(256, size=300_000, dtype=np.uint8).tobytes()
PACKED = gzip.compress(CONTENTS)
FILE = RemoteFile("numbers.gz", hashlib.sha256(CONTENTS).hexdigest())


@dataclass
class Server:
    """What a local server has and does, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    knows_ranges: bool = True
    #: Bytes after which it hangs up, once for each path.
    hang_up: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def mirror(self, name: str, contents: bytes | None = PACKED) -> str:
        """The address of a mirror that has ``numbers.gz`` with these contents, or does not have it."""
        if contents is not None:
            self.files[f"/{name}/numbers.gz"] = contents
        return f"{self.url}/{name}/"


class _Handler(BaseHTTPRequestHandler):
    plan: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.plan.requests.append((self.path, wanted))
        contents = self.plan.files.get(self.path)
        if contents is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.plan.knows_ranges else 0
        if start and start >= len(contents):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
        self.send_header("Content-Length", str(len(contents) - start))
        self.end_headers()
        self.wfile.write(contents[start : self.plan.hang_up.pop(self.path, None)])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    plan = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"plan": plan})) as http:
        plan.url = f"http://127.0.0.1:{http.server_port}"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield plan
        http.shutdown()
        thread.join()


def _download(directory: Path, *mirrors: str) -> None:
    download([FILE], mirrors, directory, dataset="Numbers")


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_arrives_whole_with_its_progress(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    directory = tmp_path / "new" / "folder"
    download(
        [FILE],
        [server.mirror("good")],
        directory,
        dataset="Numbers",
        progress=lambda name, done, total: told.append((name, done, total)),
    )
    assert (directory / "numbers.gz").read_bytes() == PACKED
    assert _names(directory) == [LOCK_NAME, "numbers.gz"]
    assert told[-1] == ("numbers.gz", len(PACKED), len(PACKED))
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


def test_a_file_that_is_there_is_not_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "numbers.gz").write_bytes(b"as it is")
    _download(tmp_path, server.mirror("good"))
    assert server.requests == []
    assert (tmp_path / "numbers.gz").read_bytes() == b"as it is"


def test_an_interrupted_download_is_carried_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "numbers.gz.part").write_bytes(PACKED[:1000])
    _download(tmp_path, server.mirror("good"))
    assert server.requests == [("/good/numbers.gz", "bytes=1000-")]
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED


def test_a_broken_connection_is_carried_on_by_the_next_mirror(server: Server, tmp_path: Path) -> None:
    server.hang_up["/breaks/numbers.gz"] = 100_000
    _download(tmp_path, server.mirror("breaks"), server.mirror("good"))
    assert server.requests == [("/breaks/numbers.gz", None), ("/good/numbers.gz", "bytes=100000-")]
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED


def test_a_server_that_knows_no_ranges_sends_all_of_it(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "numbers.gz.part").write_bytes(b"x" * 1000)
    _download(tmp_path, server.mirror("good"))
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED


@pytest.mark.parametrize("part", [PACKED, b"x" * len(PACKED), PACKED + b"x", b"x" * 1000, b""])
def test_whatever_lies_in_the_part_file_the_result_is_right(
    server: Server, tmp_path: Path, part: bytes
) -> None:
    (tmp_path / "numbers.gz.part").write_bytes(part)
    _download(tmp_path, server.mirror("good"))
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED
    assert _names(tmp_path) == [LOCK_NAME, "numbers.gz"]


def test_a_part_from_a_mirror_that_compressed_differently(server: Server, tmp_path: Path) -> None:
    other = gzip.compress(CONTENTS, compresslevel=1, mtime=1)
    (tmp_path / "numbers.gz.part").write_bytes(other[:1000])
    _download(tmp_path, server.mirror("good"))
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", None]
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(PACKED[:5000] + b"\0" * 20 + PACKED[5020:], id="damaged"),
        pytest.param(PACKED[:-8], id="cut short"),
        pytest.param(gzip.compress(b"something else"), id="another file"),
        pytest.param(b"<html>Please log in</html>", id="a web page"),
        pytest.param(None, id="not found"),
    ],
)
def test_a_bad_mirror_is_passed_over(server: Server, tmp_path: Path, bad: bytes | None) -> None:
    _download(tmp_path, server.mirror("bad", bad), server.mirror("good"))
    assert [path for path, _ in server.requests] == ["/bad/numbers.gz", "/good/numbers.gz"]
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED


def test_the_checksum_is_that_of_the_uncompressed_contents(server: Server, tmp_path: Path) -> None:
    other = gzip.compress(CONTENTS, compresslevel=1, mtime=1)
    _download(tmp_path, server.mirror("other", other))
    assert (tmp_path / "numbers.gz").read_bytes() == other


def test_offline_one_line_says_what_to_do(server: Server, tmp_path: Path) -> None:
    files = [RemoteFile("here.gz", "0"), FILE, RemoteFile("more.gz", "0")]
    (tmp_path / "here.gz").touch()
    bad, down = server.mirror("bad", b"wrong"), "http://127.0.0.1:1/down/"
    with pytest.raises(DataError) as caught:
        download(files, [bad, down], tmp_path, dataset="Numbers")
    message = str(caught.value)
    assert message.startswith("Numbers is incomplete and could not be downloaded")
    assert f"{bad}numbers.gz: the contents have another SHA-256" in message
    assert f"{down}numbers.gz: <urlopen error" in message
    assert f"Put numbers.gz, more.gz into {tmp_path}, from any of {bad}, {down}" in message
    assert "--data-root or FEATHERWEIGHT_DATA" in message
    assert "\n" not in message
    assert _names(tmp_path) == [LOCK_NAME, "here.gz"]


def test_only_http_is_followed(tmp_path: Path) -> None:
    (tmp_path / "numbers.gz.source").write_bytes(PACKED)
    with pytest.raises(DataError, match="must start with http"):
        _download(tmp_path / "new", f"file://{tmp_path}/")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"Numbers cannot be written to .*file.* choose another folder"):
        _download(tmp_path / "file" / "folder", "http://127.0.0.1:1/")


def test_threads_that_want_the_same_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    mirror, barrier = server.mirror("good"), Barrier(4)

    def fetch() -> None:
        barrier.wait()
        _download(tmp_path, mirror)

    threads = [Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests == [("/good/numbers.gz", None)]
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED


def test_processes_that_want_the_same_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; "
        "from featherweight.data.download import RemoteFile, download; "
        "sha256, mirror, folder = sys.argv[1:]; "
        "download([RemoteFile('numbers.gz', sha256)], [mirror], Path(folder), dataset='Numbers')"
    )
    command = [sys.executable, "-c", script, FILE.sha256, server.mirror("good"), str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=280) for process in processes] == [0, 0]
    assert server.requests == [("/good/numbers.gz", None)]
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED


def test_a_checksum_may_be_that_of_the_packed_file(server: Server, tmp_path: Path) -> None:
    packed = RemoteFile("numbers.gz", hashlib.sha256(PACKED).hexdigest(), as_it_is=True)
    download([packed], [server.mirror("a")], tmp_path, dataset="numbers")
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED
    wrong = RemoteFile("numbers.gz", hashlib.sha256(CONTENTS).hexdigest(), as_it_is=True)
    (tmp_path / "numbers.gz").unlink()
    with pytest.raises(DataError, match="another SHA-256"):
        download([wrong], [server.mirror("a")], tmp_path, dataset="numbers")
