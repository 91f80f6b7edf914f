"""Whatever a trainer leaves behind is data: it may cost what is read of it, never the watch."""

import json
import sys

import pytest

TRAINER = """
import lzma, os, struct, sys, time, zipfile
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
hb.beat(epoch=1, epochs=2, step=1, steps=2, loss=sys.float_info.max)
hb.beat(step=2, loss=-sys.float_info.max)
{harm}
time.sleep(0.2)
hb.beat(epoch=2, step=1, loss=sys.float_info.max)
if os.environ["FRED_ATTEMPT"] == "1":
    os._exit(3)
open("done.txt", "w").close()
"""
RANK = 'os.environ["FRED_HEARTBEAT"] + ".rank'
DAMAGED = """
with zipfile.ZipFile("a.pth", "w", zipfile.ZIP_LZMA) as archive:
    archive.writestr("data.pkl", bytes(range(256)) * 99)
data = bytearray(open("a.pth", "rb").read())
data[60:90] = bytes(30)
open("a.pth", "wb").write(data)
"""
HARM = {
    "a done file that leads nowhere": 'os.path.lexists("gone.txt") or os.symlink("nowhere", "gone.txt")',
    "a done file that leads to itself": 'os.path.lexists("x.txt") or os.symlink("x.txt", "x.txt")',
    "an endless error file": 'open(os.environ["FRED_ERROR_FILE"], "w").close(); os.truncate(os.environ["FRED_ERROR_FILE"], 200 << 30)',
    "60 MB of words": 'hb.error(RuntimeError("x" * (60 << 20)))',
    "a damaged zip with LZMA": DAMAGED,
    "a rank that is no number": f'open({RANK}²", "w").close()',
    "a rank of a thousand digits": f'open({RANK}" + "9" * 200, "w").close()',
    "a fifo as rank": f'os.path.lexists({RANK}1") or os.mkfifo({RANK}1")',
    "a folder as error file": 'os.makedirs(os.environ["FRED_ERROR_FILE"], exist_ok=True)',
    "bytes that are no text": "os.write(1, bytes(range(256)) * 400)",
    "numbers beyond all": "hb.beat(epoch=10**18, samples=2**63, step=-1)",
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_the_watch_goes_on(fred, harm: str):
    words = ["start", "--name", "t", "--run-dir", ".", "--backoff", "0:0", "--foreground", "--done-file", "*.txt"]
    words += ["--checkpoints", "*.pth", "--progress-file", "**/events*", "--", sys.executable, "-c"]
    done = fred(*words, TRAINER.format(harm=harm))
    assert done.returncode == 0, done.stderr
    (incident,) = json.loads(fred("incidents", "t", "--json").stdout)
    assert incident["kind"] == "crash"
    size = (fred.home / "supervisor/incidents/0001.json").stat().st_size
    assert size < 1 << 20
