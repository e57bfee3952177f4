"""Triton's interpreter without what it does over and over again: the same numbers in half the time."""

import triton.language as tl
from triton.runtime import interpreter


def quicken() -> None:
    """Let a function that a program calls run in the language as the program's launch has exchanged it.

    Triton exchanges every function of its language again for each such call, which takes longer than the call. What a
    launch leaves out are the names in ``triton.language.core``; these stay exchanged once they are.
    """
    exchanged: set[object] = set()

    def call(function: interpreter.InterpretedFunction, *arguments: object, **options: object) -> object:
        if not exchanged and any(value is tl.core for value in function.fn.__globals__.values()):
            interpreter._patch_lang(function.fn)
            exchanged.add(tl.core)
        try:
            return function.rewrite()(*arguments, **options)
        except Exception as error:  # as Triton's own does it
            raise interpreter.InterpreterError(repr(error)) from error

    interpreter.InterpretedFunction.__call__ = call
