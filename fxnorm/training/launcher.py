"""One training in several processes of this machine, which PyTorch's torchrun starts."""

import contextlib
import subprocess
import sys
from collections.abc import Sequence

from fxnorm.training.interruption import Interruption

_POLL_SECONDS = 0.5


def run(processes: int, command: Sequence[str]) -> tuple[int, int]:
    """Run Python with the arguments ``command`` in ``processes`` processes, and pass on a signal that comes meanwhile.

    Returns:
        the status, and that signal; 0 for none.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with (
        Interruption() as interruption,
        subprocess.Popen([*torchrun, *command], start_new_session=True) as process,
    ):
        passed_on = False
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS), interruption.signal_number
            if interruption.signal_number and not passed_on:
                process.send_signal(interruption.signal_number)
                passed_on = True
