"""``python run_all.py`` measures every co-attention on this machine; ``--help`` says what else."""

from suite.door import ready, without

if __name__ == "__main__":
    ready()  # before anything that takes a moment to load

try:
    from suite.cli import app, main  # what it loads is what the line above stands before
except ModuleNotFoundError as error:
    without(error)

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
