# SPDX-License-Identifier: Apache-2.0
"""What a volume type asks of a new volume: its format, its provisioning, where Lustre places it.

Rule 1: decides only; no file is touched.
Rule 2: what is not understood is refused with the name of the extra spec, never ignored.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from lustack.cinder.errors import SpecError

Format = Literal["raw", "qcow2"]
PREFIX: Final = "lustre:"

PLACING: Final = frozenset(PREFIX + key for key in ("layout", "pool", "project", "stripe_count", "stripe_size"))
"""Extra specs that say where a file lies."""

# Source: cinder 29.0.0, volume/api.py, _is_multiattach.
_SHARED: Final = ("multiattach", "<is> True")

# Source: lfs-setstripe(1).
_STRIPE_COUNT: Final = re.compile(r"-1|[0-9]{1,4}")
_STRIPE_SIZE: Final = re.compile(r"[0-9]+[KkMmGg]?")
_POOL: Final = re.compile(r"([A-Za-z0-9_-]{1,8}\.)?[A-Za-z0-9_-]{1,15}")
_PROJECT: Final = re.compile(r"[0-9]{1,10}")
# Options of `lfs setstripe` that describe a layout; each has one value.
_LAYOUT_OPTIONS: Final = frozenset({"-E", "-c", "-S", "-p", "-L", "-z", "-i", "-N"})
_LAYOUT_VALUE: Final = re.compile(r"-1|[A-Za-z0-9_.]+")


@dataclass(frozen=True)
class VolumeSpec:
    """How a new volume is made.

    Attributes:
        image_format: what its file is.
        is_thick: whether room is reserved for all of it; raw only.
        layout: arguments of `lfs setstripe`; empty: as the directory has it.
        project: the project id whose quota it counts against; None: as the directory has it.
        is_linked: whether, when it is made of a snapshot, it shares the file of that.
    """

    image_format: Format
    is_thick: bool = False
    layout: tuple[str, ...] = ()
    project: int | None = None
    is_linked: bool = False


@dataclass(frozen=True)
class Defaults:
    """What the configuration says for volumes whose type says nothing.

    Attributes:
        is_qcow2: qcow2 rather than raw.
        is_sparse: raw files are sparse.
    """

    is_qcow2: bool = False
    is_sparse: bool = True


def is_shared_type(specs: Mapping[str, str]) -> bool:
    """Whether a type lets several guests use a volume at once."""
    return _SHARED in specs.items()


def decide(
    specs: Mapping[str, str], defaults: Defaults, *, is_encrypted: bool = False, is_shared: bool = False
) -> VolumeSpec:
    """How a volume of a type is made.

    Args:
        specs: the extra specs of its type.
        defaults: what the configuration says.
        is_encrypted: LUKS needs the qcow2 container.
        is_shared: several guests may use it at once, which only raw files bear, whatever its type says.

    Raises:
        SpecError: the type asks for something that is not possible.
    """
    is_shared = is_shared or is_shared_type(specs)
    image_format = _decide_format(specs, defaults, is_encrypted=is_encrypted, is_shared=is_shared)
    is_thick = image_format == "raw" and _decide_thickness(specs, defaults)
    project = _match(specs, "project", _PROJECT, "a project id, a whole number")
    _refuse_unknown(specs)
    layout = _decide_layout(specs)
    # What these need is a file of its own.
    is_own = is_thick or is_encrypted or is_shared or bool(layout) or project is not None
    is_linked = _decide_linking(specs) and not is_own
    return VolumeSpec(image_format, is_thick, layout, int(project) if project else None, is_linked)


def _decide_format(specs: Mapping[str, str], defaults: Defaults, *, is_encrypted: bool, is_shared: bool) -> Format:
    asked = specs.get(PREFIX + "format")
    if asked not in {None, "raw", "qcow2"}:
        raise SpecError(PREFIX + "format", asked, "raw or qcow2")
    if is_shared:
        if asked == "qcow2" or is_encrypted:
            raise SpecError(
                PREFIX + "format", asked or "qcow2", "raw, and not encrypted, since it may be multi-attached"
            )
        return "raw"
    if is_encrypted:
        return "qcow2"
    if asked is None:
        return "qcow2" if defaults.is_qcow2 else "raw"
    return "qcow2" if asked == "qcow2" else "raw"


def _decide_thickness(specs: Mapping[str, str], defaults: Defaults) -> bool:
    asked = specs.get("provisioning:type")
    if asked not in {None, "thin", "thick"}:
        raise SpecError("provisioning:type", asked, "thin or thick")
    return not defaults.is_sparse if asked is None else asked == "thick"


def _decide_linking(specs: Mapping[str, str]) -> bool:
    asked = specs.get(PREFIX + "copies")
    if asked not in {None, "full", "linked"}:
        raise SpecError(PREFIX + "copies", asked, "full or linked")
    return asked == "linked"


def _decide_layout(specs: Mapping[str, str]) -> tuple[str, ...]:
    layout = specs.get(PREFIX + "layout")
    count = _match(specs, "stripe_count", _STRIPE_COUNT, "a number of stripes, or -1 for all")
    size = _match(specs, "stripe_size", _STRIPE_SIZE, "a size such as 4M")
    pool = _match(specs, "pool", _POOL, "the name of a pool")
    single = [
        word for option, value in (("-c", count), ("-S", size), ("-p", pool)) if value for word in (option, value)
    ]
    if layout is None:
        return tuple(single)
    if single:
        raise SpecError(PREFIX + "layout", layout, "alone: stripe_count, stripe_size and pool belong into it")
    return _parse_layout(layout)


def _parse_layout(layout: str) -> tuple[str, ...]:
    words = shlex.split(layout)
    pairs = list(zip(words[::2], words[1::2], strict=False))
    is_fine = len(words) % 2 == 0 and all(
        option in _LAYOUT_OPTIONS and _LAYOUT_VALUE.fullmatch(value) for option, value in pairs
    )
    if not words or not is_fine:
        raise SpecError(PREFIX + "layout", layout, "options of `lfs setstripe`, such as `-E 1G -c 1 -E -1 -c 8`")
    return tuple(words)


def _match(specs: Mapping[str, str], key: str, pattern: re.Pattern[str], allowed: str) -> str | None:
    value = specs.get(PREFIX + key)
    if value is not None and not pattern.fullmatch(value):
        raise SpecError(PREFIX + key, value, allowed)
    return value


_KNOWN: Final = frozenset(
    PREFIX + key for key in ("copies", "format", "layout", "pool", "project", "stripe_count", "stripe_size")
)


def _refuse_unknown(specs: Mapping[str, str]) -> None:
    for key in sorted(specs):
        if key.startswith(PREFIX) and key not in _KNOWN:
            raise SpecError(key, specs[key], f"one of {', '.join(sorted(_KNOWN))}")
