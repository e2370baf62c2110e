"""What waits is delivered in order and once, and a store that is away is waited for."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from errors import InputError
from tests.places import Place
from tests.tracking.test_logger import history, png
from tracking import delivery as module
from tracking.delivery import AwayError, Delivery, RefusedError, deliver, finish, patience
from tracking.logger import RunLogger
from tracking.spool import Entry, Spool
from tracking.store import open_client


@pytest.fixture(autouse=True)
def nothing_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What earlier tests waited in vain must not shorten the waits of later ones."""
    monkeypatch.setattr(module._WAITED, "in_vain_s", 0.0)


@pytest.fixture
def heeded() -> Iterator[None]:
    """A process that a script started in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Store:
    """A store that can be put away and back."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def connect(self) -> MlflowClient:
        self.asked += 1
        if self.away:
            msg = "connection refused"
            raise ConnectionError(msg)
        return open_client()


@pytest.fixture
def store(place: Place) -> Store:
    return Store()


@pytest.fixture
def spool(place: Place) -> Spool:
    made = Spool(str(place.client.create_run("0").info.run_id))
    made.claim(place.uri)
    return made


def metric(step: int, value: float, *, evaluates: bool = False) -> Entry:
    return Entry("metrics", {"values": [["dice", step, 17 + step, value]], "evaluates": evaluates})


def text(content: str) -> Entry:
    return Entry("file", {"path": "notes/one.txt"}, content.encode())


def test_entries_are_delivered_in_order_and_few_calls(
    place: Place, store: Store, spool: Spool
) -> None:
    for step in range(30):
        spool.append(metric(step, step / 30))
    for content in ("first", "second"):
        spool.append(text(content))
    spool.append(Entry("picture", {"key": "saliency/a", "step": 2}, png(0)))
    calls: list[list[str]] = []
    deliver(spool, store.connect, lambda entries: calls.append([one.kind for one in entries]))
    assert calls == [["metrics"] * 30, ["file"], ["file"], ["picture"]]
    assert spool.names() == []
    assert history(place, spool.run_id, "dice") == [
        (step, 17 + step, step / 30) for step in range(30)
    ]
    assert place.artifact(spool.run_id, "notes/one.txt").read_text(encoding="utf-8") == "second"
    assert place.artifact(spool.run_id, "saliency/a.png").read_bytes() == png(0)


def test_what_is_delivered_twice_stands_once(place: Place, store: Store, spool: Spool) -> None:
    """A process may be killed after the store has an entry and before the entry is dropped."""
    entries = [
        Entry("describe", {"params": {"loss": "bce"}, "tags": {"segstress.data": "abc"}}),
        metric(0, 0.5),
        metric(0, float("nan")),
        text("kept"),
        Entry("picture", {"key": "saliency/a", "step": 0}, png(0)),
        Entry("status", {"status": "FINISHED", "time": 1_000}),
    ]
    for entry in entries:
        spool.append(entry)
    deliver(spool, store.connect)
    before = repr(place.stored(spool.run_id)), place.paths(spool.run_id)
    for entry in entries:
        spool.append(entry)
    deliver(spool, store.connect)
    assert (repr(place.stored(spool.run_id)), place.paths(spool.run_id)) == before
    assert place.client.get_run(spool.run_id).info.end_time == 1_000


def test_a_thousand_metrics_and_more_are_split(place: Place, store: Store, spool: Spool) -> None:
    for part in range(3):
        values = [["dice", step, 17, 0.5] for step in range(part * 700, (part + 1) * 700)]
        spool.append(Entry("metrics", {"values": values, "evaluates": False}))
    deliver(spool, store.connect)
    assert [step for step, _, _ in history(place, spool.run_id, "dice")] == list(range(2100))


def test_what_an_evaluation_measures_again_is_left_out_at_delivery(
    place: Place, store: Store, spool: Spool
) -> None:
    spool.append(metric(0, 0.5))
    spool.append(metric(0, 0.25, evaluates=True))
    spool.append(metric(1, 0.75, evaluates=True))
    deliver(spool, store.connect)
    values = [(step, value) for step, _, value in history(place, spool.run_id, "dice")]
    assert values == [(0, 0.5), (1, 0.75)]


def test_a_store_that_is_away_keeps_everything(store: Store, spool: Spool) -> None:
    names = [spool.append(metric(step, 0.5)) for step in range(3)]
    store.away = True
    with pytest.raises(AwayError, match="connection refused"):
        deliver(spool, store.connect)
    assert spool.names() == names


@pytest.mark.parametrize(
    "entry",
    [
        Entry("metrics", {"values": [["a = b", 0, 17, 0.5]], "evaluates": False}),
        Entry("picture", {"key": "saliency/a", "step": 0}, b"no picture"),
        Entry("unknown"),
    ],
)
def test_what_waiting_does_not_mend_is_refused_and_kept_with_what_follows(
    entry: Entry, place: Place, store: Store, spool: Spool
) -> None:
    spool.append(metric(0, 0.5))
    kept = [spool.append(entry), spool.append(metric(1, 0.5))]
    with pytest.raises(RefusedError):
        deliver(spool, store.connect)
    assert spool.names() == kept
    assert len(history(place, spool.run_id, "dice")) == 1


def test_a_deleted_run_is_a_refusal(place: Place, store: Store, spool: Spool) -> None:
    place.client.delete_run(spool.run_id)
    spool.append(metric(0, 0.5))
    with pytest.raises(RefusedError, match="deleted"):
        deliver(spool, store.connect)
    assert len(spool.names()) == 1


def test_one_at_a_time_delivers(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.1)
    spool.append(metric(0, 0.5))
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with spool.lock(5):
            entered.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(30)
    with pytest.raises(AwayError, match="another process"):
        deliver(spool, store.connect)
    leave.set()
    holder.join()
    deliver(spool, store.connect)
    assert spool.names() == []


def test_many_deliverers_at_once_deliver_each_entry_once(store: Store, spool: Spool) -> None:
    for number in range(20):
        spool.append(text(str(number)))
    delivered: list[Entry] = []
    threads = [
        threading.Thread(target=deliver, args=(spool, store.connect, delivered.extend))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.payload for entry in delivered] == [str(one).encode() for one in range(20)]


def test_the_writer_is_not_held_up_and_delivery_goes_on_when_the_store_is_back(
    place: Place,
    store: Store,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.05)
    store.away = True
    delivery = Delivery(spool, store.connect)
    began = time.monotonic()
    for step in range(20):
        delivery.append(metric(step, 0.5))
    assert time.monotonic() - began < 5
    while store.asked < 4:
        time.sleep(0.01)
    assert len(spool.names()) == 20
    store.away = False
    assert delivery.wait(30)
    assert len(history(place, spool.run_id, "dice")) == 20
    assert [line for line in caplog.messages if "does not answer" in line] != []
    assert len([line for line in caplog.messages if "does not answer" in line]) == 1
    assert len([line for line in caplog.messages if "answers again" in line]) == 1


def test_the_end_waits_as_long_as_it_is_told_and_the_next_one_shorter(
    store: Store, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = True
    delivery = Delivery(spool, store.connect)
    delivery.append(metric(0, 0.5))
    began = time.monotonic()
    finish(delivery, 7)
    assert 6.5 < time.monotonic() - began < 15
    assert "1 entries wait" in caplog.text
    assert "sync" in caplog.text
    began = time.monotonic()
    finish(delivery, 7)
    assert time.monotonic() - began < 6.5
    store.away = False
    assert delivery.wait(30)


def test_a_refusal_is_told_once_and_not_waited_for(
    place: Place, store: Store, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    place.client.delete_run(spool.run_id)
    delivery = Delivery(spool, store.connect)
    for step in range(3):
        delivery.append(metric(step, 0.5))
    began = time.monotonic()
    finish(delivery, 60)
    delivery.append(metric(3, 0.5))
    finish(delivery, 60)
    assert time.monotonic() - began < 30
    assert len([line for line in caplog.messages if "refuses" in line]) == 1
    assert len(spool.names()) == 4


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_ctrl_c_ends_the_wait_and_nothing_else(before: object, store: Store, spool: Spool) -> None:
    """Lightning ignores the signal while it ends a run that was interrupted."""
    store.away = True
    delivery = Delivery(spool, store.connect)
    delivery.append(metric(0, 0.5))
    signal.signal(signal.SIGINT, before)  # type: ignore[arg-type]
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    assert not delivery.wait(60)
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGINT) is before
    assert len(spool.names()) == 1
    store.away = False
    assert delivery.wait(30)


def test_what_an_earlier_process_left_is_delivered_by_the_next(place: Place) -> None:
    first = RunLogger("trials", "bce seed 0")
    first.open()
    run_id = str(first.version)
    first.finalize("failed")
    Spool(run_id).append(metric(0, 0.5))
    resumed = RunLogger("trials", "bce seed 0")
    resumed.adopt(run_id, evaluate=False)
    resumed.open()
    resumed.log_metrics({"dice": 0.75}, 1)
    resumed.finalize("success")
    values = [(step, value) for step, _, value in history(place, run_id, "dice")]
    assert values == [(0, 0.5), (1, 0.75)]
    assert place.client.get_run(run_id).info.status == "FINISHED"


def test_a_checkpoint_keeps_what_the_store_lacks(place: Place) -> None:
    logger = RunLogger("trials", "bce seed 0")
    logger.open()
    assert logger.flush()
    with Spool(str(logger.version)).lock(30):  # nobody delivers meanwhile
        logger.log_metrics({"val/dice": 0.5}, 0)
        logger.send()
        logger.log_metrics({"val/dice": 0.75}, 1)
        assert [one[:2] for one in logger.undelivered()] == [("val/dice", 0), ("val/dice", 1)]
    assert logger.flush()
    assert [one[:2] for one in logger.undelivered()] == [("val/dice", 1)]


@pytest.mark.parametrize(("text", "seconds"), [("", 120.0), ("0", 0.0), ("2.5", 2.5)])
def test_the_wait_can_be_set(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSTRESS_STORE_WAIT", text)
    assert patience() == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_wait_that_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSTRESS_STORE_WAIT", text)
    with pytest.raises(InputError, match="SEGSTRESS_STORE_WAIT"):
        patience()


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MlflowException("busy", error_code=2), False),  # TEMPORARILY_UNAVAILABLE
        (MlflowException("connection broke off"), False),
        (OSError("disk full"), False),
        (PermissionError("read-only"), True),
    ],
)
def test_in_doubt_the_store_is_away(
    error: Exception, refused: bool, store: Store, spool: Spool
) -> None:
    spool.append(metric(0, 0.5))

    def connect() -> MlflowClient:
        raise error

    with pytest.raises(RefusedError if refused else AwayError):
        deliver(spool, connect)
