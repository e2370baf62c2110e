"""Tests of fetching a file from a real server that breaks off, lies, changes its mind or hangs."""

import random
import socket
import time
from pathlib import Path

import pytest

from datamodules import download_http
from datamodules.download_http import Patience, download
from datamodules.download_part import Source
from errors import InputError
from tests.datamodules.serving import (
    Behaviour,
    Request,
    Served,
    broken_after,
    lying,
    md5,
    serving,
    status,
    stuck_after,
    well,
    whole,
    whole_but,
    without_length,
)
from tests.datamodules.tiny import refusal

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
HASTE = Patience(retries=3, timeout_seconds=5, first_wait_seconds=0.01)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "a.tar.part"


def fetch(served: Served, part: Path, patience: Patience = HASTE) -> None:
    download(f"{served.address}/a.tar", part, md5(CONTENT), patience)


def refused(served: Served, part: Path, patience: Patience = HASTE) -> str:
    with pytest.raises(InputError) as caught:
        fetch(served, part, patience)
    message = refusal(caught)
    assert message.startswith(f"{served.address}/a.tar: ")
    return message


# What a server may do so that the file still comes


def slow_down(request: Request, served: Served) -> None:
    status(503, Retry_After=0)(request, served)


def other_range(request: Request, served: Served) -> None:
    """Answer with a range that was not asked for."""
    size = len(served.content)
    request.head(206, Content_Range=f"bytes 7-{size - 1}/{size}", Content_Length=size - 7)
    request.wfile.write(served.content[7:])


def hang_up(request: Request, _: Served) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


KIND: dict[str, tuple[list[Behaviour], list[str | None]]] = {
    "well": ([well], [None]),
    "without a length": ([without_length], [None]),
    "breaks off": ([broken_after(100_000), well], [None, "bytes=100000-"]),
    "breaks off at the first byte": ([broken_after(0), well], [None, None]),
    "breaks off time and again": (
        [broken_after(40_000)] * 7 + [well],
        [None, *(f"bytes={count}-" for count in range(40_000, 300_000, 40_000))],
    ),
    "ignores ranges": ([whole_but(100_000), whole], [None, "bytes=100000-"]),
    "says a longer length": ([lying(5000)], [None]),
    "is busy": ([slow_down, slow_down, well], [None, None, None]),
    "fails": ([status(500), well], [None, None]),
    "fails in the middle": (
        [broken_after(100_000), status(502), well],
        [None, "bytes=100000-", "bytes=100000-"],
    ),
    "hangs up": ([hang_up, well], [None, None]),
    "another range": (
        [broken_after(100_000), other_range, well],
        [None, "bytes=100000-", None],
    ),
}


@pytest.mark.parametrize("kind", KIND)
def test_the_file_comes_whole_and_goes_on_where_it_broke(kind: str, part: Path) -> None:
    behaviours, ranges = KIND[kind]
    with serving(CONTENT, *behaviours) as served:
        fetch(served, part)
    assert part.read_bytes() == CONTENT
    assert served.ranges == ranges


def test_a_hanging_server_is_left_and_asked_again(part: Path) -> None:
    patience = Patience(retries=1, timeout_seconds=0.3, first_wait_seconds=0.01)
    with serving(CONTENT, stuck_after(0), stuck_after(70_000), well) as served:
        start = time.monotonic()
        fetch(served, part, patience)
        assert time.monotonic() - start < 5
    assert part.read_bytes() == CONTENT
    assert served.ranges == [None, None, "bytes=70000-"]


def test_a_file_that_changes_between_two_parts_is_read_from_the_start(part: Path) -> None:
    def change(request: Request, served: Served) -> None:
        served.content, served.etag = CONTENT, '"two"'
        well(request, served)

    with serving(OTHER, broken_after(100_000), change) as served:
        fetch(served, part)
    assert part.read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=100000-"]
    assert served.conditions == [None, '"one"']


def test_a_changed_file_is_noticed_where_the_server_ignores_the_condition(
    part: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(request: Request, served: Served) -> None:
        served.content, served.etag = CONTENT, '"two"'
        size = len(CONTENT)
        request.head(
            206,
            Content_Range=f"bytes 100000-{size - 1}/{size}",
            Content_Length=size - 100_000,
            ETag='"two"',
        )
        request.wfile.write(CONTENT[100_000:])

    with serving(OTHER, broken_after(100_000), change, well) as served:
        fetch(served, part)
    assert part.read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=100000-", None]
    notices = capsys.readouterr().err
    assert "another file than before" in notices
    assert "the pieces don't fit" not in notices  # the rest of it was not even read


def test_pieces_that_don_t_fit_are_fetched_once_more_as_a_whole(
    part: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an ETag nothing but the sum can tell that the file has changed."""

    def change(request: Request, served: Served) -> None:
        served.content = CONTENT
        well(request, served)

    with serving(OTHER, broken_after(100_000), change) as served:
        served.etag = None
        fetch(served, part)
    assert part.read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=100000-", None]
    assert served.conditions == [None, None, None]
    assert "starting again" in capsys.readouterr().err


def test_a_weak_etag_is_no_condition(part: Path) -> None:
    with serving(CONTENT, broken_after(100_000), well) as served:
        served.etag = 'W/"one"'
        fetch(served, part)
    assert served.conditions == [None, None]
    assert served.ranges == [None, "bytes=100000-"]


# What lies there from an earlier call


def test_the_next_call_goes_on_where_the_last_one_gave_up(part: Path) -> None:
    once = Patience(retries=0, timeout_seconds=5, first_wait_seconds=0.01)
    with serving(CONTENT, broken_after(100_000), well) as served:
        assert "run the command again" in refused(served, part, once)
        assert part.read_bytes() == CONTENT[:100_000]
        fetch(served, part, once)
    assert part.read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=100000-"]
    assert served.conditions == [None, '"one"']


def test_another_mirror_goes_on_too_but_with_no_condition(part: Path) -> None:
    once = Patience(retries=0, timeout_seconds=5, first_wait_seconds=0.01)
    with serving(CONTENT, broken_after(100_000)) as served:
        refused(served, part, once)
    with serving(CONTENT) as served:
        served.etag = '"quite another"'
        fetch(served, part, once)
    assert part.read_bytes() == CONTENT
    assert served.ranges == ["bytes=100000-"]
    assert served.conditions == [None]


def test_a_whole_file_needs_no_server(part: Path) -> None:
    part.write_bytes(CONTENT)
    download("http://127.0.0.1:9/a.tar", part, md5(CONTENT), HASTE)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("there", [OTHER[:1000], OTHER, OTHER + CONTENT], ids=len)
@pytest.mark.parametrize("record", [None, "{}", "\0", '{"address": 1, "length": "x"}'])
def test_wrong_bytes_from_before_are_replaced(there: bytes, record: str | None, part: Path) -> None:
    part.write_bytes(there)
    if record is not None:
        part.with_name(f"{part.name}.json").write_text(record)
    with serving(CONTENT) as served:
        fetch(served, part)
    assert part.read_bytes() == CONTENT


# What ends it


def test_a_wrong_file_is_named_and_does_not_stay(part: Path) -> None:
    with serving(OTHER) as served:
        message = refused(served, part)
    assert md5(OTHER) in message
    assert md5(CONTENT) in message
    assert "--mirror" in message
    assert list(part.parent.iterdir()) == []


def test_a_length_that_is_too_short_is_a_wrong_file(part: Path) -> None:
    with serving(CONTENT, lying(-1000)) as served:
        assert f"299000 bytes with md5 {md5(CONTENT[:-1000])}" in refused(served, part)
    assert list(part.parent.iterdir()) == []


def test_pieces_that_never_fit_end(part: Path) -> None:
    with serving(OTHER, broken_after(100_000), well, broken_after(100_000), well) as served:
        refused(served, part)
    assert len(served.ranges) == 4


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_file_that_is_not_there_is_not_asked_for_again(code: int, part: Path) -> None:
    with serving(CONTENT, status(code)) as served:
        assert f"found {code} " in refused(served, part)
    assert served.ranges == [None]
    assert list(part.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (status(503), "503 Service Unavailable"),
        (hang_up, "no connection"),
        (whole_but(100_000), "broke off"),
        (lying(-1), "md5"),
        (other_range, "another part than asked for"),
    ],
    ids=["busy", "hangs up", "always at the same byte", "a byte short", "another range"],
)
def test_a_server_that_does_not_mend_its_ways_is_left(
    behaviour: Behaviour, why: str, part: Path
) -> None:
    with serving(CONTENT, behaviour) as served:
        assert why in refused(served, part)
    assert len(served.ranges) <= HASTE.retries + 2


def test_a_server_that_always_hangs_is_left(part: Path) -> None:
    patience = Patience(retries=1, timeout_seconds=0.2, first_wait_seconds=0.01)
    with serving(CONTENT, stuck_after(1000), stuck_after(0)) as served:
        message = refused(served, part, patience)
    assert "timed out" in message
    assert "2 times in a row" in message
    assert served.ranges == [None, "bytes=1000-", "bytes=1000-"][: len(served.ranges)]
    assert part.read_bytes() == CONTENT[:1000]


def test_nobody_there(part: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        message = refused(Served(b"", address), part)
    assert "no connection (Connection refused)" in message
    assert "4 times in a row" in message


def test_redirects_without_end(part: Path) -> None:
    with serving(CONTENT, status(302, Location="/again")) as served:
        assert "no usable address" in refused(served, part)


def test_a_certificate_that_is_not_trusted_is_not_tried_again(part: Path) -> None:
    with serving(CONTENT) as served:
        secure = Served(b"", served.address.replace("http:", "https:"))
        assert "no trusted connection" in refused(secure, part)


@pytest.mark.parametrize("length", [download_http.LARGEST_BYTES + 1, 10**17])
def test_a_length_beyond_all_tasks_is_refused_at_once(length: int, part: Path) -> None:
    with serving(CONTENT, status(200)) as served:
        served.behaviours = [lambda request, _: request.head(200, Content_Length=length)]
        assert "64,000.0 MB" in refused(served, part)
    assert len(served.ranges) == 1


def test_a_server_that_names_a_pause_gets_it(part: Path) -> None:
    with serving(CONTENT, status(429, Retry_After=1), well) as served:
        start = time.monotonic()
        fetch(served, part)
    assert 1 <= time.monotonic() - start < 3


def test_pauses_grow(part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT, status(503)) as served:
        refused(served, part)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("trying again in ")[2] for line in lines] == [
        "0.01 s (1 of 3)",
        "0.02 s (2 of 3)",
        "0.04 s (3 of 3)",
    ]


@pytest.mark.parametrize(
    ("retries", "timeout", "option"),
    [(-1, 1, "--retries"), (1, 0, "--timeout"), (1, float("nan"), "--timeout"), (1, -1, "--t")],
)
def test_numbers_out_of_range_are_refused(retries: int, timeout: float, option: str) -> None:
    with pytest.raises(InputError) as caught:
        Patience(retries=retries, timeout_seconds=timeout)
    assert refusal(caught).startswith(option)


def test_no_password_or_secret_is_kept_beside_the_file(part: Path) -> None:
    once = Patience(retries=0, timeout_seconds=5, first_wait_seconds=0.01)
    with serving(CONTENT, broken_after(1000)) as served:
        refused(served, part, once)
    kept = part.with_name(f"{part.name}.json").read_text()
    assert set(Source.__dataclass_fields__) == {"address", "validator", "length"}
    assert served.address in kept
