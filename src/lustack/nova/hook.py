# SPDX-License-Identifier: Apache-2.0
"""The other way to make nova-compute know the volume driver, for those who cannot set `compute_driver`.

    python -m lustack.nova.hook install     with nova-compute's own interpreter; then restart nova-compute
    python -m lustack.nova.hook remove
    python -m lustack.nova.hook status

It puts one line into site-packages (a `.pth` file, see Python's module `site`): each interpreter that starts there
waits for Nova's libvirt driver to be imported, and then adds the volume driver to its table. Off until asked for.

Rule: `arm` runs in every program of that environment. It imports nothing but what an interpreter has imported anyway,
and nothing of it may ever fail.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from importlib import util
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

WATCHED: Final = "nova.virt.libvirt.driver"
FILE_NAME: Final = "lustack-nova.pth"
LINE: Final = "import lustack.nova.hook; lustack.nova.hook.arm()\n"


class _Registering(Loader):
    """Does what another loader does, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        from lustack.nova import registration  # noqa: PLC0415 (only where Nova's driver was imported)

        registration.register()


class _Waiting(MetaPathFinder):
    """Finds nothing but the watched module, and that once."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


def arm() -> None:
    """Wait for Nova's libvirt driver; may be called again."""
    if not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def main(argv: Sequence[str] | None = None) -> int:
    """Install or remove the line, or say whether it is there.

    Args:
        argv: `install`, `remove` or `status`; None: the arguments of this process.

    Returns:
        0: done, or it is there; 1: it is not there, or the file cannot be written; 2: a wrong word.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words not in (["install"], ["remove"], ["status"]):
        print("usage: python -m lustack.nova.hook install|remove|status", file=sys.stderr)
        return 2
    path = os.path.join(sysconfig.get_paths()["purelib"], FILE_NAME)
    try:
        return _do(words[0], path)
    except OSError as error:
        print(f"{path}: {error.strerror}; run this as the owner of that directory", file=sys.stderr)
        return 1


def _do(verb: str, path: str) -> int:
    if verb == "install":
        with open(path, "w", encoding="utf-8") as file:
            file.write(LINE)
    elif verb == "remove" and os.path.exists(path):
        os.unlink(path)
    is_there = os.path.exists(path)
    print(f"{path}: {'installed; nova-compute takes it up when it starts' if is_there else 'not installed'}")
    return 0 if is_there or verb == "remove" else 1


if __name__ == "__main__":
    sys.exit(main())
