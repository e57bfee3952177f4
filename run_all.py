"""``python run_all.py`` measures every co-attention on this machine; ``--help`` says what else."""

from suite.door import ready

if __name__ == "__main__":
    ready()  # before anything that takes a moment to load

from suite.cli import app, main  # what it loads is what the line above stands before

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
