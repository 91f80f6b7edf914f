"""Alerts: a process of its own sends them, so that a server that does not answer never delays the supervisor.

The supervisor starts `python -m fred_supervisor.alerts` when there is something to send and writes to its standard
input, one JSON object per line. Addresses hold passwords: so they are sent this way, and stand in no command line.
The first line says where to send::

    {"name": "rgb", "journal": "/…/journal.jsonl", "cwd": "/…", "notify": [URL, …], "on_event": "COMMAND …" | null,
     "ping": URL | null, "language": "en" | "zh_CN"}

Each other line is one event (`notification.AlertEvent`), `{"ping": true}`, or `{"daily": true, "run_dir": …}`: the
daily summary, which is made here from the files of the run, by a process of its own, for they may lie on a disk that
does not answer. At the end of its input the process sends what it still has, for a bounded time, and exits. What could
not be delivered, and to which kind of address, is a line in the journal.

`python -m fred_supervisor.alerts --check` reads such a first line, and answers with a JSON list of what is wrong in it.
"""
