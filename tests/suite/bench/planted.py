"""Mechanisms that fail in every way a worker can fail; loaded with --with."""

import ctypes
import os
import signal
import time

import torch

from variants import Attended, Batch, CoAttention, register
from variants.masking import blank, masked_mean


class Mean(CoAttention):
    """Masked means, and a fault before them."""

    source = "planted"

    def forward(self, batch: Batch) -> Attended:
        self.fail()
        image, image_weights = masked_mean(blank(batch.image, batch.image_valid), batch.image_valid)
        question, question_weights = masked_mean(batch.question, batch.question_valid)
        return Attended(
            image.unsqueeze(1), question.unsqueeze(1), image_weights.unsqueeze(1), question_weights.unsqueeze(1)
        )

    def fail(self) -> None:
        """Nothing, in the sound one."""


@register("planted_sound")
class Sound(Mean):
    pass


@register("planted_segfault")
class Segfault(Mean):
    def fail(self) -> None:
        ctypes.string_at(0)


@register("planted_hang")
class Hang(Mean):
    def fail(self) -> None:
        time.sleep(1000)


@register("planted_hunger")
class Hunger(Mean):
    def fail(self) -> None:
        torch.ones(2**45)


@register("planted_kill")
class Kill(Mean):
    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@register("planted_exit")
class Exit(Mean):
    def fail(self) -> None:
        raise SystemExit(0)


@register("planted_timer")
class Timer(Mean):
    """Ends its process a little later, whoever is at work by then."""

    def fail(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)


@register("planted_raise")
class Raise(Mean):
    def fail(self) -> None:
        raise RuntimeError("planted")


@register("planted_nan")
class Nan(Mean):
    def forward(self, batch: Batch) -> Attended:
        attended = super().forward(batch)
        return attended._replace(image=attended.image * float("nan"))


@register("planted_mode")
class Mode(Mean):
    """Sound in float32, and ends its process in bfloat16: a culprit beside sound variants of one comparison."""

    def forward(self, batch: Batch) -> Attended:
        if batch.image.dtype == torch.bfloat16:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(batch)
