"""A callback that kills its process in the middle of an epoch, where the environment asks for it."""

from __future__ import annotations

import os
import signal

from skorch.callbacks import Callback

__all__ = ["KillsAtStep"]


class KillsAtStep(Callback):
    """Ends the process, as `kill -9` does, after the step that `KILL_AT_STEP` names; the same callback without it."""

    def on_batch_end(self, net, training=False, **kwargs):
        """Count steps of training."""
        self.n_steps = getattr(self, "n_steps", 0) + training
        if self.n_steps == int(os.environ.get("KILL_AT_STEP", "-1")):
            os.kill(os.getpid(), signal.SIGKILL)
