"""The end of a chart process."""

import subprocess
import sys

CHILD = """
import trio
from piker.service._dump import install_dump
from piker.ui._app import end_within

async def wait_for_a_peer():
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

install_dump()
end_within(0.1)
trio.run(wait_for_a_peer)
"""


def test_a_goodbye_that_nobody_answers_ends_and_says_what_it_waited_for():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert "wait_for_a_peer" in done.stderr
