"""
A command that was started by another process of ours ends when that process is gone.

The starter holds the write end of a pipe and names the read end in `PIKER_LIFELINE_FD`; however
it dies, the kernel closes the pipe. Only direct children are tied so: a daemon of the tree has
its own lifeline to its supervisor.
"""

import os
import signal
import threading

VARIABLE = "PIKER_LIFELINE_FD"
GRACE_S = 2.5  # between being asked to stop and being ended


def watch() -> bool:
    """Tie this process to the pipe that its starter named; return whether it named one."""
    text = os.environ.pop(VARIABLE, "")
    if not text.isdigit():
        return False
    fd = int(text)
    os.set_inheritable(fd, False)
    threading.Thread(target=end_with_pipe, args=(fd,), daemon=True, name="lifeline").start()
    return True


def end_with_pipe(fd: int) -> None:
    """Block until the other end of `fd` closes, then stop this process, by force if need be."""
    while os.read(fd, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
