"""A real HTTP server on this machine that behaves badly on request, and small tars to serve."""

import contextlib
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.datamodules.tiny import NAME, write_task

Behaviour = Callable[["Request", "Served"], None]


@dataclass
class Served:
    """What the server holds, how it answers request after request, and what it was asked.

    The last behaviour stays.
    """

    content: bytes
    address: str = ""
    etag: str | None = '"one"'
    behaviours: list[Behaviour] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    conditions: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class Request(BaseHTTPRequestHandler):
    """Passes a request on to the behaviour whose turn it is."""

    served: Served

    def do_GET(self) -> None:
        served = self.served
        served.paths.append(self.path)
        served.ranges.append(self.headers.get("Range"))
        served.conditions.append(self.headers.get("If-Range"))
        turn = served.behaviours.pop(0) if len(served.behaviours) > 1 else served.behaviours[0]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            turn(self, served)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def first(self, served: Served) -> int:
        """The first byte that is asked for, if the file is the one that is meant."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        condition = self.headers.get("If-Range")
        return int(found[1]) if found and condition in {None, served.etag} else 0


def part_of(request: Request, served: Served, most: int | None = None) -> None:
    """Answer as a good server does, but with ``most`` bytes at most, whatever the head says."""
    first, size = request.first(served), len(served.content)
    tag = {"ETag": served.etag} if served.etag else {}
    if first >= size:
        request.head(416, Content_Range=f"bytes */{size}", Content_Length=0)
    elif first:
        part = f"bytes {first}-{size - 1}/{size}"
        request.head(206, Content_Range=part, Content_Length=size - first, **tag)
    else:
        request.head(200, Content_Length=size, **tag)
    end = size if most is None else min(size, first + most)
    request.wfile.write(served.content[first:end])


def well(request: Request, served: Served) -> None:
    part_of(request, served)


def broken_after(most: int) -> Behaviour:
    return lambda request, served: part_of(request, served, most)


def stuck_after(most: int) -> Behaviour:
    """Send some bytes, and then nothing until the server is released."""

    def behave(request: Request, served: Served) -> None:
        part_of(request, served, most)
        request.wfile.flush()
        served.released.wait(60)

    return behave


def whole(request: Request, served: Served) -> None:
    """Ignore ranges."""
    request.head(200, Content_Length=len(served.content))
    request.wfile.write(served.content)


def whole_but(most: int) -> Behaviour:
    """Ignore ranges, and break off."""

    def behave(request: Request, served: Served) -> None:
        request.head(200, Content_Length=len(served.content))
        request.wfile.write(served.content[:most])

    return behave


def lying(by: int) -> Behaviour:
    """Say a length that is wrong by some bytes, and ignore ranges."""

    def behave(request: Request, served: Served) -> None:
        request.head(200, Content_Length=len(served.content) + by)
        request.wfile.write(served.content)

    return behave


def without_length(request: Request, served: Served) -> None:
    request.head(200)
    request.wfile.write(served.content)


def status(code: int, **headers: object) -> Behaviour:
    return lambda request, _: request.head(code, Content_Length=0, **headers)


@contextmanager
def serving(content: bytes, *behaviours: Behaviour) -> Iterator[Served]:
    """Serve a file under every path, at ``Served.address``."""
    served = Served(content, behaviours=list(behaviours) or [well])
    handler = type("Handler", (Request,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def task_tar(folder: Path, *, cases: int = 3, shape: tuple[int, int, int] = (40, 40, 20)) -> bytes:
    """Pack a tiny task as the published tars are packed, with the files of macOS in it."""
    source = write_task(folder, cases=cases, shape=shape)
    (source / "._dataset.json").write_bytes(b"\0\5\26\7")
    (source / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        beside = tarfile.TarInfo(f"./._{NAME}")
        tar.addfile(beside)
        tar.add(source, arcname=f"./{NAME}")
    return packed.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
