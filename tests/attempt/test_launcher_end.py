"""What a launcher says of the program that it has started: its words are not the cause."""

import pytest

from fred_supervisor.attempt.launcher_end import passed_on, signal_in_shell

OWN = (
    'Epoch 3/9\nTraceback (most recent call last):\n  File "train.py", line 3, in <module>\nValueError: no such class\n'
)
ITS = """Traceback (most recent call last):
  File "/env/bin/accelerate", line 6, in <module>
    sys.exit(main())
subprocess.CalledProcessError: Command '['/env/bin/python', 'train.py', '--out', 'a b']' {}.
"""


@pytest.mark.parametrize(
    ("said", "code", "signal"),
    [("returned non-zero exit status 75", 75, None), ("died with <Signals.SIGKILL: 9>", None, 9)],
)
def test_the_end_of_the_program_counts_and_its_own_words(said: str, code: int | None, signal: int | None):
    found = passed_on(OWN + ITS.format(said))
    assert found is not None
    assert (found.exit_code, found.signal, found.text) == (code, signal, OWN)


def test_where_the_program_said_nothing_the_launcher_speaks():
    text = ITS.format("died with <Signals.SIGKILL: 9>")
    found = passed_on(text)
    assert found is not None
    assert found.text == text


@pytest.mark.parametrize(
    "text", ["", "\n", OWN, ITS.format("returned nothing"), ITS.format("died with <Signals.SIGKILL: 9>") + "more"]
)
def test_other_words_are_those_of_the_trainer(text: str):
    assert passed_on(text) is None


@pytest.mark.parametrize(
    ("program", "code", "number"),
    [
        ("bash", 137, 9),
        ("/bin/sh", 139, 11),
        ("zsh", 134, 6),
        ("bash", 130, None),
        ("bash", 143, None),
        ("bash", 1, None),
        ("bash", None, None),
        ("python", 137, None),
        ("fish-like", 137, None),
        ("", 137, None),
    ],
)
def test_a_shell_reports_a_signal_by_its_exit_code(program: str, code: int | None, number: int | None):
    assert signal_in_shell((program,), code) == number
