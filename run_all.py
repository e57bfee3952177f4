"""``python run_all.py`` measures every co-attention on this machine; ``--help`` says what else."""

from suite.cli import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
