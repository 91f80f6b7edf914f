"""Alerts: a process of its own that sends them, so that no server that does not answer ever holds up the watching.

The supervisor starts `python -m fred_supervisor.alerts` when there is something to send and writes to its standard
input, one JSON object a line. Addresses hold passwords, which is why they travel that way and stand in no command
line. The first line says where to::

    {"name": "rgb", "journal": "/…/journal.jsonl", "cwd": "/…", "notify": [URL, …], "on_event": "COMMAND …" | null,
     "ping": URL | null}

Each other line is one event (`letter.Event`), `{"ping": true}` for a sign of life. The end of input is the end of
events: what is under way is still sent, for a bounded time, and then the process leaves. What could not be delivered,
and to which kind of address, is a line in the journal.

`python -m fred_supervisor.alerts --check` reads such a first line, and answers with a JSON list of what is wrong in it.
"""
