"""A spool keeps order and content, whatever happens to those who write into it."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.places import ROOT, Place
from tracking.spool import Entry, Spool, spools_dir, store_address, waiting_spools

numbers = st.floats(allow_nan=False)
plain = st.dictionaries(
    st.text().filter(lambda key: key != "kind"), st.text() | numbers | st.integers() | st.none()
)


@given(kind=st.text(), facts=plain, payload=st.binary())
def test_an_entry_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, kind: str, facts: dict[str, object], payload: bytes
) -> None:
    spool = Spool("a", tmp_path_factory.mktemp("spools"))
    spool.claim("http://one.example")
    entry = Entry(kind, facts, payload)
    name = spool.append(entry)
    assert spool.names() == [name]
    assert spool.read(name) == entry


def test_values_that_are_no_numbers_come_back(tmp_path: Path) -> None:
    spool = Spool("a", tmp_path)
    spool.claim("http://one.example")
    values = [["a", 0, 1, float("nan")], ["b", 0, 1, float("-inf")], ["c", 0, 1, 0.1]]
    kept = spool.read(spool.append(Entry("metrics", {"values": values}))).facts["values"]
    assert repr(kept) == repr(values)


def test_entries_stand_in_the_order_in_which_they_were_added(tmp_path: Path) -> None:
    first = Spool("a", tmp_path)
    first.claim("http://one.example")
    names = [first.append(Entry("file", {"number": number})) for number in range(50)]
    for name in names[:49]:
        first.remove(name)
    # Another process goes on, whatever its clock says.
    later = Spool("a", tmp_path)
    names += [later.append(Entry("file", {"number": number})) for number in range(50, 60)]
    waiting = later.names()
    assert waiting == names[49:]
    assert [later.read(name).facts["number"] for name in waiting] == list(range(49, 60))


def test_names_rise_above_those_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    spool = Spool("a", tmp_path)
    spool.claim("http://one.example")
    future = "0" * 1 + "9" * 19
    (spool.folder / f"{future}-00000000.entry").write_bytes(b'{"kind": "file"}\n')
    later = Spool("a", tmp_path)
    assert later.append(Entry("file")) == later.names()[-1]


_WRITER = """
import sys
from pathlib import Path
from tracking.spool import Entry, Spool
spool = Spool("a", Path(sys.argv[1]))
print("ready", flush=True)
for number in range(1_000_000):
    spool.append(Entry("file", {"number": number}, b"x" * 100_000))
"""


def test_a_writer_that_is_killed_leaves_whole_entries(tmp_path: Path) -> None:
    spool = Spool("a", tmp_path)
    spool.claim("http://one.example")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    while len(spool.names()) < 20:
        assert all(writer.poll() is None for writer in writers)
    for writer in writers:
        writer.kill()
        writer.communicate()
    entries = [spool.read(name) for name in spool.names()]
    assert len(entries) >= 20
    assert all(entry.payload == b"x" * 100_000 for entry in entries)


def test_what_is_no_entry_is_named(tmp_path: Path) -> None:
    spool = Spool("a", tmp_path)
    spool.claim("http://one.example")
    (spool.folder / "00000000000000000001-00000000.entry").write_bytes(b"[1]\n")
    with pytest.raises(ValueError, match="no entry"):
        spool.read("00000000000000000001-00000000.entry")


def test_spools_lie_beside_the_checkpoints_and_empty_ones_do_not_wait(place: Place) -> None:
    assert spools_dir() == place.store / "spool"
    assert list(waiting_spools()) == []
    for run_id in ("b", "a", "c"):
        Spool(run_id).claim(place.uri)
    for run_id in ("b", "a"):
        Spool(run_id).append(Entry("file"))
    assert [spool.run_id for spool in waiting_spools()] == ["a", "b"]


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:////somewhere/mlflow.db", "sqlite:mlflow.db"),
        ("http://runs.example:5000/", "http://runs.example:5000"),
        ("https://ada:secret@runs.example/mlflow", "https://runs.example/mlflow"),
        ("postgresql://ada:secret@base:5432/runs?sslmode=require", "postgresql://base:5432/runs"),
    ],
)
def test_an_address_is_kept_without_its_secrets(uri: str, address: str, tmp_path: Path) -> None:
    spool = Spool("a", tmp_path)
    assert spool.address is None
    spool.claim(uri)
    assert spool.address == address == store_address(uri)
    assert not [path for path in spool.folder.iterdir() if b"secret" in path.read_bytes()]
