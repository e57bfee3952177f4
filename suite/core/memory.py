"""What a process has held."""

from pathlib import Path


def peak_B() -> int:
    """Most bytes that this process has held in memory so far.

    Of this program alone: ``getrusage`` on Linux counts what the process held that started it, too.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        import resource  # here alone, so that what does not measure runs where there is none

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
