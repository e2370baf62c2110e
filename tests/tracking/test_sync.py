"""``sync`` delivers what earlier processes left, and says what became of it."""

import pytest

from errors import InputError
from tests.places import NewLogger, Place
from tests.tracking.test_logger import history
from tracking.spool import Entry, Spool
from tracking.sync import sync


def left_by(place: Place, new_logger: NewLogger, *, entries: int = 2) -> Spool:
    """The spool of a run whose process was killed."""
    logger = new_logger()
    logger.open()
    spool = Spool(str(logger.version))
    for step in range(entries):
        values = [["dice", step, 17, 0.5], ["loss", step, 17, 0.25]]
        spool.append(Entry("metrics", {"values": values, "evaluates": False}))
    spool.append(Entry("file", {"path": "config/fit.yaml"}, b"seed: 0"))
    return spool


def test_all_spools_are_delivered_and_told(place: Place, new_logger: NewLogger) -> None:
    spools = [left_by(place, new_logger) for _ in range(2)]
    found = {synced.run_id: synced for synced in sync()}
    assert set(found) == {spool.run_id for spool in spools}
    for synced in found.values():
        assert synced.trouble is None
        assert synced.waiting == 0
        assert synced.summary == "4 metrics, 1 file"
        assert len(history(place, synced.run_id, "dice")) == 2
        assert place.artifact(synced.run_id, "config/fit.yaml").read_bytes() == b"seed: 0"
    assert list(sync()) == []


def test_one_run_is_delivered_by_the_first_letters_of_its_id(
    place: Place, new_logger: NewLogger
) -> None:
    spools = [left_by(place, new_logger) for _ in range(2)]
    with pytest.raises(InputError, match="several runs") as raised:
        list(sync(""))
    assert "\n" not in str(raised.value)
    (synced,) = sync(spools[0].run_id[:12])
    assert synced.run_id == spools[0].run_id
    assert spools[0].names() == []
    assert len(spools[1].names()) == 3


def test_a_deleted_run_keeps_its_entries_and_others_get_theirs(
    place: Place, new_logger: NewLogger
) -> None:
    deleted, other = (left_by(place, new_logger) for _ in range(2))
    place.client.delete_run(deleted.run_id)
    found = {synced.run_id: synced for synced in sync()}
    assert "refuses" in str(found[deleted.run_id].trouble)
    assert found[deleted.run_id].waiting == 3
    assert found[other.run_id].trouble is None
    place.client.restore_run(deleted.run_id)
    (synced,) = sync()
    assert synced.trouble is None


def test_what_waits_for_another_store_is_left_alone_unless_it_is_named(
    place: Place, new_logger: NewLogger
) -> None:
    spool = left_by(place, new_logger)
    spool.claim("http://ada:secret@runs.example:5000")
    (synced,) = sync()
    assert "http://runs.example:5000" in str(synced.trouble)
    assert synced.waiting == 3
    (synced,) = sync(spool.run_id)
    assert synced.trouble is None
    assert len(history(place, spool.run_id, "dice")) == 2
