"""One small archive that is whole at every moment, whatever ends the program."""

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

LARGEST_FILE_B = 4 * 2**20
"""A larger one, such as a long trace, is left out and named."""
LARGEST_B = 14 * 2**20
"""Of the archive: as much as is easily brought from one machine to another."""
LEFT_OUT = "left-out.txt"


def pack(folder: Path, target: Path, *, largest_b: int = LARGEST_B, largest_file_b: int = LARGEST_FILE_B) -> list[str]:
    """Put every file of a folder into an archive, in place of the one there: at every moment one of both is whole.

    Files may be written to meanwhile: each is taken as it is at one moment. Where all would be too much, the largest
    are left out, which a file in the archive says.

    Args:
        folder: what is kept; its name is the archive's only folder.
        target: ends in ``.tgz``.
        largest_b: bytes of the archive.
        largest_file_b: bytes of a file in it.

    Returns:
        What was left out, each with its size.
    """
    left: list[str] = []
    kept: list[tuple[Path, bytes]] = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            size = path.stat().st_size
            if size > largest_file_b:
                left.append(_named(path, folder, size))
            else:
                kept.append((path, path.read_bytes()))
        except OSError:  # gone since
            continue
    kept.sort(key=lambda one: len(one[1]))
    packed = _packed(folder, kept, left)
    while len(packed) > largest_b and kept:
        path, content = kept.pop()
        left.append(_named(path, folder, len(content)))
        packed = _packed(folder, kept, left)
    unfinished = target.with_name(f".{target.name}.part")
    with unfinished.open("wb") as file:
        file.write(packed)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, target)
    return left


def _named(path: Path, folder: Path, size: int) -> str:
    return f"{path.relative_to(folder)} ({size / 2**20:.1f} MiB)"


def _packed(folder: Path, kept: Iterable[tuple[Path, bytes]], left: list[str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as archive:
        for path, content in kept:
            _add(archive, f"{folder.name}/{path.relative_to(folder)}", content)
        if left:
            _add(archive, f"{folder.name}/{LEFT_OUT}", "".join(f"{name}\n" for name in left).encode())
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
