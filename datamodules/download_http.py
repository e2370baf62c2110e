"""Fetching one large file over HTTP: what breaks off goes on from there, and the sum decides."""

import math
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from datamodules.archive import check_space
from datamodules.download_part import PartFile, Source
from datamodules.download_progress import Bar, megabytes, notices, progress
from datamodules.wrong_input import wrong_input
from errors import InputError

LARGEST_BYTES = 64_000_000_000  # the largest task takes 29 GB
_RECEIVED_AT_ONCE = 1 << 18
_LONGEST_WAIT_SECONDS = 60.0
_MAY_PASS = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True)
class Patience:
    """How long a download bears with a server.

    Attributes:
        retries: How often it tries again in a row without a byte more than before.
        timeout_seconds: How long it waits for a connection, and for each next byte.
        first_wait_seconds: Pause before the first retry; each next one is twice as long, up to a
            minute. A server that names a longer pause gets it, up to a minute.
    """

    retries: int = 5
    timeout_seconds: float = 30.0
    first_wait_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: If one of them is out of range.
        """
        if self.retries < 0:
            raise wrong_input(
                at="--retries", found=self.retries, expected="0 or more", do="set another number"
            )
        if not 0 < self.timeout_seconds < math.inf:
            raise wrong_input(
                at="--timeout",
                found=self.timeout_seconds,
                expected="seconds above 0",
                do="set another number",
            )


class _BrokeOffError(Exception):
    """A request that may do better next time.

    Args:
        reason: What happened.
        wait_seconds: Pause that the server asks for.
    """

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def download(address: str, path: Path, md5: str, patience: Patience) -> None:
    """Fetch a file, going on from the bytes that are there already.

    A range is asked for on the condition that the file has not changed since. A server that sends
    the whole file all the same, or another file, is read from the start. Where pieces don't add up
    to the sum, the file is fetched once more as a whole.

    Args:
        address: Where it lies, http or https.
        path: Where to write it. What is there is taken as its beginning; after an error it stays
            there for the next call, unless the server's file is a wrong one.
        md5: Sum that it must have, in hexadecimal.
        patience: How long to bear with the server.

    Raises:
        InputError: If the server does not have the file or has another one, or cannot be reached or
            breaks off too often, or the disk has too little space.
        OSError: If the file cannot be written.
    """
    with (
        progress(f"Downloading {path.name.removesuffix('.part')}") as bar,
        PartFile(path, bar.advance) as part,
        requests.Session() as session,
    ):
        if part.md5 == md5:
            return
        _receive_all(session, address, part, patience, bar, md5)
        if part.md5 != md5 and part.pieces > 1:
            notices().print(f"{path.name}: the pieces don't fit; starting again")
            part.restart()
            _receive_all(session, address, part, patience, bar, md5)
        if part.md5 != md5:
            found = f"{part.size} bytes with md5 {part.md5}"
            part.remove()
            raise wrong_input(
                at=address,
                found=found,
                expected=f"a file with md5 {md5}",
                do="set --mirror to an address that has the published file",
            )


def _receive_all(
    session: requests.Session,
    address: str,
    part: PartFile,
    patience: Patience,
    bar: Bar,
    md5: str,
) -> None:
    """Ask until the file is whole by length, or by its sum where a server lies about the length."""
    failures, furthest = 0, part.size
    while True:
        try:
            _receive(session, address, part, patience.timeout_seconds, bar)
        except _BrokeOffError as broken:
            if part.md5 == md5:
                return
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures > patience.retries:
                raise wrong_input(
                    at=address,
                    found=f"{broken} after {megabytes(part.size)}, {failures} times in a row",
                    expected="the whole file",
                    do="run the command again to go on from there, or set --mirror",
                ) from broken
            wait = patience.first_wait_seconds * 2 ** (failures - 1)
            wait = min(max(wait, broken.wait_seconds), _LONGEST_WAIT_SECONDS)
            notices().print(
                f"{address}: {broken} after {megabytes(part.size)}; trying again in {wait:g} s "
                f"({failures} of {patience.retries})"
            )
            time.sleep(wait)
        else:
            return


def _receive(
    session: requests.Session, address: str, part: PartFile, timeout_seconds: float, bar: Bar
) -> None:
    """Send one request, and append what it brings."""
    try:
        with session.get(
            address,
            headers=_headers(address, part),
            stream=True,
            timeout=timeout_seconds,
        ) as answer:
            length = _prepare(answer, address, part)
            bar.expect(length)
            while chunk := answer.raw.read1(_RECEIVED_AT_ONCE, decode_content=False):
                part.append(chunk)
                if part.size > LARGEST_BYTES:
                    raise _too_large(address)
    except requests.exceptions.SSLError as error:
        raise _unreachable(address, f"no trusted connection ({_cause(error)})") from error
    except requests.Timeout as error:
        message = f"no answer within {timeout_seconds:g} s"
        raise _BrokeOffError(message) from error
    except requests.ConnectionError as error:
        message = f"no connection ({_cause(error)})"
        raise _BrokeOffError(message) from error
    except requests.RequestException as error:
        raise _unreachable(address, f"no usable address ({_cause(error)})") from error
    except HTTPError as error:
        message = f"a connection that broke off ({_cause(error)})"
        raise _BrokeOffError(message) from error
    if length is not None and part.size != length:
        message = f"{part.size} of {length} bytes"
        raise _BrokeOffError(message)


def _headers(address: str, part: PartFile) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        source = part.source()
        # Another mirror names the same file by another validator; its sum will tell.
        if source and source.address == address and source.validator:
            headers["If-Range"] = source.validator
    return headers


def _prepare(answer: requests.Response, address: str, part: PartFile) -> int | None:
    """Read the head of an answer; returns the length of the whole file, where it is known."""
    if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
        length = _resumed_length(answer, address, part)
    elif answer.status_code == HTTPStatus.OK:
        length = _number(answer.headers.get("Content-Length"))
        part.restart(Source(address, _validator(answer), length))
    elif answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
        part.restart()
        message = "a file that ends earlier"
        raise _BrokeOffError(message)
    elif answer.status_code in _MAY_PASS:
        message = f"{answer.status_code} {answer.reason}"
        raise _BrokeOffError(message, _number(answer.headers.get("Retry-After")) or 0)
    else:
        raise wrong_input(
            at=address,
            found=f"{answer.status_code} {answer.reason}",
            expected="the tar of a task",
            do="check the address, or set --mirror to one that has the file",
        )
    if length is not None:
        if length > LARGEST_BYTES:
            raise _too_large(address)
        # The tar holds its members uncompressed, and stays until they are all written.
        check_space(part.path.parent, 2 * length - part.size, "the tar and the files in it")
    part.pieces += 1
    return length


def _resumed_length(answer: requests.Response, address: str, part: PartFile) -> int | None:
    """Check that an answer goes on where the part ends, in the same file."""
    source = part.source() or Source(address)
    found = re.fullmatch(
        r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", answer.headers.get("Content-Range", "")
    )
    length = _number(found[2]) if found else None
    same_address = source.address == address
    is_other_file = (source.length and length and source.length != length) or (
        same_address and source.validator and _validator(answer) not in {None, source.validator}
    )
    if not found or int(found[1]) != part.size or is_other_file:
        part.restart()
        message = "another file than before" if is_other_file else "another part than asked for"
        raise _BrokeOffError(message)
    return length


def _validator(answer: requests.Response) -> str | None:
    """A weak ETag promises a like file and not the same bytes."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None


def _cause(error: BaseException) -> str:
    """The innermost reason, without the objects that the libraries wrap around it."""
    inner = error
    while (below := getattr(inner, "reason", None) or inner.__cause__ or inner.__context__) and (
        isinstance(below, BaseException)
    ):
        inner = below
    if inner is error and inner.args and isinstance(inner.args[0], BaseException):
        return _cause(inner.args[0])
    return " ".join(str(getattr(inner, "strerror", None) or inner or type(inner).__name__).split())


def _unreachable(address: str, found: str) -> InputError:
    return wrong_input(
        at=address,
        found=found,
        expected="a server that has the file",
        do="check the address and the certificates of this machine, or set --mirror",
    )


def _too_large(address: str) -> InputError:
    return wrong_input(
        at=address,
        found=f"more than {megabytes(LARGEST_BYTES)}",
        expected="the tar of a task",
        do="check the address, or set --mirror to one that has the file",
    )
