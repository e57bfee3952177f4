"""`python run_all.py gpu-slot` where the command line's own libraries are missing: ``python -m suite.slot``."""

import argparse
import sys
from pathlib import Path

from suite.core import exits
from suite.core.errors import UserError
from suite.slot import session


def main(arguments: list[str] | None = None) -> int:
    """As the command of that name; returns its exit code."""
    parser = argparse.ArgumentParser(prog="gpu-slot", description="Everything that some minutes on a GPU can tell.")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--out", type=Path, default=Path("gpu-slot"))
    parser.add_argument("--rehearse", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        code, _ = session.start(seconds=asked.seconds, out=asked.out, rehearse=asked.rehearse)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return exits.WRONG_COMMAND
    print(asked.out / session.ARCHIVE)
    return code


if __name__ == "__main__":
    sys.exit(main())
