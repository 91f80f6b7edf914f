"""Quiet hours: what is understood, what is refused, and that the clock's changes are followed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fred_supervisor.monitor.quiet import in_window, next_change, parse_window, quiet_at

ROME = ZoneInfo("Europe/Rome")
WORK = parse_window("mon-fri 08:00-19:00 Europe/Rome")


def rome(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ROME)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon-fri 08:00-19:00 UTC", {0, 1, 2, 3, 4}),
        ("Mon,wed,SAT-sun 8:00-9:30 UTC", {0, 2, 5, 6}),
        ("fri-mon 08:00-19:00 UTC", {4, 5, 6, 0}),
        ("monday, friday 08:00-19:00 UTC", {0, 4}),
        ("daily 00:00-24:00", set(range(7))),
        ("22:00-06:00 America/New_York", set(range(7))),
    ],
)
def test_days(text: str, days: set[int]) -> None:
    assert parse_window(text).days == days


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no hours"),
        ("mon-fri", "has no hours"),
        ("mon-fri 08:00", "HH:MM-HH:MM"),
        ("mon-fri 8-19", "has no hours"),
        ("mon-fri 08:00-25:00", "no 25:00 o'clock"),
        ("mon-fri 08:61-19:00", "no 08:61 o'clock"),
        ("mon-fri 08:00-08:00", "00:00-24:00"),
        ("mon-fri 24:00-08:00", "cannot begin at 24:00"),
        ("mun-fri 08:00-19:00", "'mun' is no day"),
        ("mon-fri 08:00-19:00 Europe/Roma", "no time zone 'Europe/Roma'"),
        ("mon-fri 08:00-19:00 ../../etc/passwd", "no time zone"),
        ("mon-fri 08:00-19:00 Europe/Rome and more", "one time zone"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="quiet window") as raised:
        parse_window(text)
    assert says in str(raised.value)


def test_begins_with_its_start_and_ends_before_its_end() -> None:
    assert not in_window(WORK, rome("2026-11-23T07:59:59"))
    assert in_window(WORK, rome("2026-11-23T08:00"))
    assert in_window(WORK, rome("2026-11-23T18:59:59"))
    assert not in_window(WORK, rome("2026-11-23T19:00"))
    assert not in_window(WORK, rome("2026-11-22T12:00"))  # a Sunday


def test_over_midnight_the_day_is_that_of_the_beginning() -> None:
    window = parse_window("fri 22:00-06:00 Europe/Rome")
    assert in_window(window, rome("2026-11-20T23:00"))
    assert in_window(window, rome("2026-11-21T05:59"))
    assert not in_window(window, rome("2026-11-20T05:00"))
    assert not in_window(window, rome("2026-11-21T22:00"))
    assert next_change(window, rome("2026-11-20T23:00")) == rome("2026-11-21T06:00")


def test_over_the_weekend() -> None:
    assert next_change(WORK, rome("2026-11-20T19:00")) == rome("2026-11-23T08:00")


def test_until_midnight() -> None:
    window = parse_window("mon 20:00-24:00 UTC")
    assert next_change(window, datetime(2026, 11, 23, 21, tzinfo=UTC)) == datetime(2026, 11, 24, tzinfo=UTC)


def test_eight_in_rome_is_another_hour_of_utc_in_summer() -> None:
    assert next_change(WORK, rome("2026-03-27T20:00")) == datetime(2026, 3, 30, 6, tzinfo=UTC)
    assert next_change(WORK, rome("2026-10-23T20:00")) == datetime(2026, 10, 26, 7, tzinfo=UTC)


def test_a_start_that_the_clock_jumps_over_is_the_jump() -> None:
    window = parse_window("sun 02:30-05:00 Europe/Rome")  # 29 March 2026: 02:00 becomes 03:00
    change = next_change(window, rome("2026-03-29T01:00"))
    assert change == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert next_change(window, change) == datetime(2026, 3, 29, 3, tzinfo=UTC)


def test_an_hour_that_comes_twice_is_in_the_window_twice() -> None:
    window = parse_window("sun 02:00-02:30 Europe/Rome")  # 25 October 2026: 03:00 becomes 02:00
    found, at = [], datetime(2026, 10, 24, 22, tzinfo=UTC)
    for _ in range(4):
        at = next_change(window, at) or at
        found.append(at.strftime("%H:%M"))
    assert found == ["00:00", "00:30", "01:00", "01:30"]


def test_always_and_never_change() -> None:
    always = parse_window("daily 00:00-24:00 UTC")
    assert next_change(always, datetime(2026, 1, 1, tzinfo=UTC)) is None
    quiet = quiet_at([always], datetime(2026, 1, 1, tzinfo=UTC))
    assert (quiet.now, quiet.until) == (True, None)
    assert quiet_at([], datetime(2026, 1, 1, tzinfo=UTC)).until is None


def test_windows_that_follow_one_another_are_one() -> None:
    windows = [parse_window("mon 08:00-12:00 UTC"), parse_window("mon 12:00-19:00 UTC")]
    quiet = quiet_at(windows, datetime(2026, 11, 23, 9, tzinfo=UTC))
    assert (quiet.now, quiet.until) == (True, datetime(2026, 11, 23, 19, tzinfo=UTC))
    before = quiet_at(windows, datetime(2026, 11, 23, 7, tzinfo=UTC))
    assert (before.now, before.until, before.window) == (
        False,
        datetime(2026, 11, 23, 8, tzinfo=UTC),
        "mon 08:00-12:00 UTC",
    )


@pytest.mark.parametrize(
    "texts",
    [
        ["daily 00:00-12:00 UTC", "daily 12:00-24:00 UTC"],
        ["mon-fri 00:00-24:00 UTC", "sat-sun 00:00-24:00 UTC"],
        ["daily 18:00-06:00 UTC", "daily 05:00-19:00 UTC"],
    ],
)
def test_windows_that_together_never_end_have_no_end(texts: list[str]) -> None:
    quiet = quiet_at(map(parse_window, texts), datetime(2026, 11, 23, 9, tzinfo=UTC))
    assert (quiet.now, quiet.until) == (True, None)


def test_a_whole_working_week_ends_when_it_ends() -> None:
    windows = [parse_window("mon-sat 00:00-24:00 UTC"), parse_window("mon 08:00-09:00 UTC")]
    quiet = quiet_at(windows, datetime(2026, 11, 23, 8, 30, tzinfo=UTC))
    assert (quiet.now, quiet.until) == (True, datetime(2026, 11, 29, tzinfo=UTC))


FULL = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


@pytest.mark.parametrize(("number", "name"), list(enumerate(FULL)))
def test_every_day_by_its_names(number: int, name: str) -> None:
    for word in (name, name[:3], name.upper(), name[:3].capitalize()):
        assert parse_window(f"{word} 08:00-09:00 UTC").days == {number}
    assert datetime(2026, 11, 23 + number, tzinfo=UTC).strftime("%A").lower() == name
    assert in_window(parse_window(f"{name} 08:00-09:00 UTC"), datetime(2026, 11, 23 + number, 8, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "start_min", "end_min"),
    [
        ("* 00:00-24:00 UTC", 0, 1440),
        ("08:30-19:59 UTC", 510, 1199),
        ("22:00-00:00 UTC", 1320, 1440),
        ("23:59-0:01 UTC", 1439, 1),
        ("8:00\N{EN DASH}9:00 UTC", 480, 540),
    ],
)
def test_hours(text: str, start_min: int, end_min: int) -> None:
    window = parse_window(text)
    assert (window.start_min, window.end_min, window.days, window.text) == (start_min, end_min, set(range(7)), text)


@settings(max_examples=60, deadline=None)
@given(
    days=st.sampled_from(["daily", "sun", "sat-sun", "mon,sun"]),
    start=st.integers(0, 95),
    end=st.integers(0, 96),
    zone=st.sampled_from(["Europe/Rome", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    # The nights of the changes in Rome, New York and on Lord Howe (by half an hour).
    begin=st.sampled_from(["2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31", "2026-04-04", "2026-10-03"]),
)
def test_the_next_change_is_what_a_look_at_every_minute_finds(
    days: str, start: int, end: int, zone: str, begin: str
) -> None:
    if start == end % 96 or start == end:
        return
    window = parse_window(f"{days} {start // 4:02}:{start % 4 * 15:02}-{end // 4:02}:{end % 4 * 15:02} {zone}")
    at = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    now = in_window(window, at)
    minutes = (at + timedelta(minutes=5 * i) for i in range(1, 2 * 24 * 12))
    looked = next((minute for minute in minutes if in_window(window, minute) != now), None)
    found = next_change(window, at)
    if looked is None:
        assert found is None or found >= at + timedelta(hours=47)
    else:
        assert found == looked
