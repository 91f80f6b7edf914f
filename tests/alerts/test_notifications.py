"""How much is sent, and in which words."""

import pytest

from fred_supervisor.alerts import delivery
from fred_supervisor.alerts.addresses import DeliveryError, address_errors, masked
from fred_supervisor.alerts.delivery import PersonDestination
from fred_supervisor.alerts.notification import AlertEvent, TokenBucket, compose
from fred_supervisor.policy.message import AlertKind, JournalEvent, Topic, say


def event(kind: AlertKind, text: str = "text") -> AlertEvent:
    return AlertEvent(kind=kind, title=f"rgb: {kind}", text=text)


class Nowhere:
    name = "nowhere"


def test_a_few_at_once_and_then_one_now_and_then():
    rate = TokenBucket(burst=2, every_s=10)
    for _ in range(2):
        assert rate.wait_s(0.0) == 0
        rate.take()
    assert rate.wait_s(0.0) == 10
    assert rate.wait_s(4.0) == 6
    assert rate.wait_s(10.0) == 0
    rate.take()
    assert rate.wait_s(1000.0) == 0, "time that passed unused is not saved up without bound"
    rate.take()
    rate.take()
    assert rate.wait_s(1000.0) == 10


def test_a_storm_is_put_together_and_what_is_urgent_is_not_held_back():
    person = PersonDestination(Nowhere(), rate=TokenBucket(burst=1, every_s=600))  # type: ignore[arg-type]
    storm = [event(AlertKind.INCIDENT, f"crash {n}") for n in range(30)]
    assert person.take(storm[:1], 0.0, last=False) == (storm[:1], 0.0)
    assert person.take(storm, 60.0, last=False) == ([], 540.0)
    urgent = [*storm, event(AlertKind.FAILED, "given up")]
    assert person.take(urgent, 60.0, last=False) == (urgent, 0.0)
    assert person.take(storm, 61.0, last=True) == (storm, 0.0), "at the end nothing is kept back"
    told = compose(urgent)
    assert told.title == "rgb: failed (and 30 more)"
    assert told.kind is AlertKind.FAILED
    assert "given up" in told.text
    assert "21 earlier ones are left out" in told.text
    assert len(told.text) < 1000


def test_one_event_is_one_plain_notification():
    told = compose([event(AlertKind.HOLDING, "Held: disk full")])
    assert (told.title, told.text) == ("rgb: holding", "Held: disk full")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Apprise's own imports
def test_addresses_are_checked_and_never_told():
    assert masked("slack://TokenA/TokenB/#c") == "slack://…"
    assert masked("no address") == "…"
    assert address_errors({"notify": ["json://127.0.0.1/x"], "ping": "https://h/x", "on_event": "true -x 'a b'"}) == []
    bad = address_errors({"notify": ["slakk://geheim"], "ping": "ftp://geheim", "on_event": "no-such-program geheim"})
    assert len(bad) == 3
    assert not any("geheim" in line for line in bad)
    assert "No closing quotation" in address_errors({"on_event": "unclosed 'quote"})[0]


@pytest.mark.parametrize(("fails", "told"), [(2, [JournalEvent.ALERT_SENT]), (9, [JournalEvent.ALERT_LOST])])
def test_what_is_not_taken_is_sent_again_as_often_as_there_are_pauses(
    monkeypatch, fails: int, told: list[JournalEvent]
):
    monkeypatch.setattr(delivery, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(delivery, "GATHER_S", 0.0)
    tries: list[int] = []

    class Refusing(Nowhere):
        def take(self, waiting: list[AlertEvent], now_s: float, *, last: bool) -> tuple[list[AlertEvent], float]:
            return list(waiting), 0.0

        def send(self, events: list[AlertEvent]) -> None:
            tries.append(len(events))
            if len(tries) <= fails:
                raise DeliveryError(say(Topic.ALERT_LOST, address="x", events=(), reason="x"))

    seen: list[JournalEvent] = []
    thread = delivery.DeliveryThread(Refusing(), lambda kind, _: seen.append(kind))
    thread.start()
    thread.put(event(AlertKind.FAILED))
    thread.close()
    thread.join()
    assert (seen, len(tries)) == (told, min(fails + 1, 4))
