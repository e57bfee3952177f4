"""One variant by itself, as a benchmark has it that times one after the other: the same clock, settled the same way."""

from collections import defaultdict
from itertools import count

from suite.bench.probes.clocks import Clock
from suite.bench.probes.step import Step


class Alone:
    """Readings of one variant, each after an untimed call of its own, on inputs that rotate."""

    def __init__(self, step: Step, clock: Clock) -> None:
        self._step = step
        self._clock = clock
        self._turns = count()
        self.samples: dict[str, list[float]] = defaultdict(list)
        """Seconds by quantity."""
        self.cpu_s: list[float] = []

    def settle(self) -> None:
        """The untimed call."""
        self._step(next(self._turns))
        self._step.clear()

    def read(self) -> float:
        """The timed call; its latency in seconds."""
        reading = self._clock.read(self._step, next(self._turns))
        self._step.clear()
        for quantity, seconds in reading.seconds.items():
            self.samples[quantity].append(seconds)
        if reading.cpu_s is not None:
            self.cpu_s.append(reading.cpu_s)
        return reading.seconds["latency"]
