"""Triton's interpreter without what it does over and over again: the same numbers in half the time."""

import triton.language as tl
from triton.runtime import interpreter


def quicken() -> None:
    """Let a function that a program calls run in the language as the program's launch has exchanged it, and the like.

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

    kinds: dict[str, object] = {}
    looked_up = interpreter._get_np_dtype

    def kind_of_numpy(kind: tl.dtype) -> object:  # Triton's own makes a table of all kinds for each question
        if kind.name not in kinds:
            kinds[kind.name] = looked_up(kind)
        return kinds[kind.name]

    interpreter.InterpretedFunction.__call__ = call
    interpreter._get_np_dtype = kind_of_numpy
