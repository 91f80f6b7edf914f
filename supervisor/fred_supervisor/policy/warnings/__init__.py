"""What goes wrong without failing: signs of it, and warnings that begin, hold and end by themselves.

To add a kind: a row in `rows.ROWS`, a sentence for its topic and one for its end in `words/warnings.py`, and somebody
who gives `Sign`s of it, either in `Observation.signs` (whoever looks at the machine) or from a pure module here.
Nothing here knows states or histories of a run, so that those can hold what is remembered here.
"""
