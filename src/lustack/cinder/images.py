# SPDX-License-Identifier: Apache-2.0
"""What is done to the files of volumes: qemu-img, and the few commands beside it.

Rule 1: every command is told the format of every file. A guest can write a qcow2 header into its raw volume, and
    whoever guesses then reads what that header names (CVE-2024-32498).
Rule 2: a file is removed only when nothing refers to it any more.
Rule 3: commands go through the runner that the driver hands over, which becomes root where the configuration says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from oslo_concurrency import processutils

from lustack.cinder.errors import ForeignBackingError
from lustack.cinder.record import is_own_file
from lustack.cinder.specs import VolumeSpec

GIB: Final = 1 << 30
_KEY_ID: Final = "key"
# How long LUKS stretches a passphrase, when a file is made and whenever it is opened. That is for what people can
# remember; ours are keys of at least 128 random bits. The default of 2 s would be paid for each file of a chain.
_STRETCHING_MS: Final = 100
# On a busy machine qemu may measure 0 ms and give up. Source: QEMU 7.2, crypto/pbkdf.c, qcrypto_pbkdf2_count_iters.
_NO_CLOCK: Final = "Unable to get accurate CPU usage"
_TRIES: Final = 10
# What qemu says of a file that another one has locked. Source: QEMU 7.2, block/file-posix.c, raw_check_lock_bytes.
_LOCKED: Final = "Is another process using the image"
# How many requests of a copy are under way at once, out of order. Source: qemu-img(1), -m and -W; 16 is its most.
_COPY: Final = ("-m", "16", "-W")


@dataclass(frozen=True)
class Layer:
    """A file of a chain.

    Attributes:
        name: its name in the directory of its volume.
        image_format: what it is.
        size_bytes: how much a guest sees.
        backing: name of the file below it; None at the bottom.
    """

    name: str
    image_format: str
    size_bytes: int
    backing: str | None


@dataclass(frozen=True)
class Image:
    """A file to read from or write to.

    Attributes:
        path: where it is.
        image_format: raw or qcow2; luks: the bytes of a disk that is encrypted, as Glance keeps them.
        key: file that holds its passphrase; None: not encrypted.
        depth: how many files are below it, all with the same passphrase.
    """

    path: str
    image_format: str
    key: str | None = None
    depth: int = 0

    @property
    def name(self) -> str:
        """Its name in its directory."""
        return os.path.basename(self.path)


class Images:
    """Makes, copies and changes files of volumes."""

    def __init__(self, run: Callable[..., tuple[str, str]]) -> None:
        self._run = run

    def inspect(self, path: str, image_format: str, volume_name: str) -> list[Layer]:
        """The chain of a file, itself first.

        Args:
            path: the file.
            image_format: what it is.
            volume_name: every file of the chain must be one of this volume's.

        Raises:
            ForeignBackingError: one is not.
            ProcessExecutionError: there is no such image.
        """
        chain = () if image_format == "raw" else ("--backing-chain",)
        out, _ = self._run("qemu-img", "info", "-U", "--output=json", *chain, "-f", image_format, path)
        found = json.loads(out)
        layers = [_parse_layer(each) for each in (found if isinstance(found, list) else [found])]
        for layer in layers:
            if layer.backing is not None and not is_own_file(layer.backing, volume_name):
                raise ForeignBackingError(path, layer.backing)
        return [
            Layer(each.name, each.image_format, each.size_bytes, each.backing and os.path.basename(each.backing))
            for each in layers
        ]

    def is_written_to(self, image: Image) -> bool:
        """Whether a guest writes to a file, on whatever node: qemu locks what it writes to.

        Raises:
            ProcessExecutionError: there is no such image.
        """
        # Who reads a qcow2 file wants nobody to write to it; a raw one must be opened to write, and stays what it is.
        command, more = ("resize", ("+0",)) if image.image_format == "raw" else ("info", ())
        try:
            self._run("qemu-img", command, "-f", image.image_format, image.path, *more)
        except processutils.ProcessExecutionError as error:
            if _LOCKED not in (error.stderr or ""):
                raise
            return True
        return False

    def is_locked(self, path: str) -> bool:
        """Whether a guest writes to a file whose format is not known; nothing of it is read or changed.

        Raises:
            ProcessExecutionError: it cannot be opened.
        """
        try:
            self._run("qemu-io", "-f", "raw", "-c", "length", path)
        except processutils.ProcessExecutionError as error:
            if _LOCKED not in (error.stderr or ""):
                raise
            return True
        return False

    def place(self, path: str, spec: VolumeSpec) -> None:
        """Make the empty file where the type wants it; without wishes nothing is done."""
        if spec.layout:
            self._run("lfs", "setstripe", *spec.layout, path)
        if spec.project is not None:
            if not spec.layout:
                self._run("truncate", "-s", "0", path)
            self._run("lfs", "project", "-p", str(spec.project), path)

    def create(
        self, image: Image, size_gib: int, *, is_thick: bool = False, cipher: dict[str, str] | None = None
    ) -> None:
        """Make an empty volume.

        Args:
            image: what it will be.
            size_gib: how much a guest sees.
            is_thick: reserve room for all of it.
            cipher: how it is encrypted, when it has a key.
        """
        if image.image_format == "raw":
            command = ("fallocate", "-l") if is_thick else ("truncate", "-s")
            self._run(*command, f"{size_gib}G", image.path)
            return
        secret, options = _render_target(image, cipher)
        self._make("qemu-img", "create", "-q", "-f", "qcow2", *secret, *options, image.path, f"{size_gib}G")

    def create_overlay(self, image: Image, below: Image, size_gib: int, cipher: dict[str, str] | None = None) -> None:
        """Make a file that records what changes from now on.

        Args:
            image: the new file.
            below: the file that it is backed by; it is not opened, since a guest may be writing to it.
            size_gib: how much a guest sees.
            cipher: how it is encrypted, when it has a key.
        """
        secret, options = _render_target(image, cipher)
        backing = ("-u", "-b", below.name, "-F", below.image_format)
        self._make("qemu-img", "create", "-q", "-f", "qcow2", *secret, *options, *backing, image.path, f"{size_gib}G")

    def copy(self, source: Image, target: Image, cipher: dict[str, str] | None = None) -> None:
        """Copy what a guest sees in one image to another, which is made anew; holes stay holes."""
        secret, options = _render_target(target, cipher)
        command = ("qemu-img", "convert", "-q", *_COPY, "-U", "-O", target.image_format, *secret, *options)
        self._make(*command, *_render_source(source), target.path)

    def overwrite(self, source: Image, target: Image, size_gib: int) -> None:
        """Write what a guest sees in one image into a file that is there; behind that it reads as zeros.

        Args:
            source: the image.
            target: a qcow2 file on top of others, which stay what they are; with the same key, if both have one.
            size_gib: how much a guest sees of it.
        """
        self.erase(target, size_gib)
        secret = _render_secret(_KEY_ID, target.key) if target.key else ()
        into = ("--target-image-opts", _render_node(target))
        words = _render_source(source)
        self._run("qemu-img", "convert", "-q", "-n", *_COPY, *(() if source.key else secret), *words, *into)

    def erase(self, image: Image, size_gib: int) -> None:
        """Have a file that is there read as zeros, up to a size; files below it stay what they are."""
        nothing = f"driver=null-co,size={size_gib * GIB},read-zeroes=on"
        secret = _render_secret(_KEY_ID, image.key) if image.key else ()
        into = ("--target-image-opts", _render_node(image))
        self._run("qemu-img", "convert", "-q", "-n", *secret, "--image-opts", nothing, *into)

    def _make(self, *command: str) -> None:
        """Run a command that makes an image; again when LUKS could not find out how fast this machine is."""
        for _ in range(_TRIES - 1):
            try:
                self._run(*command)
            except processutils.ProcessExecutionError as error:
                if _NO_CLOCK not in (error.stderr or ""):
                    raise
            else:
                return
        self._run(*command)

    def make_durable(self, path: str) -> None:
        """Have what was written to a file on its disks: qemu-img convert does not wait for that."""
        self._run("dd", "if=/dev/null", f"of={path}", "conv=notrunc,fsync", "oflag=append", "status=none")

    def resize(self, image: Image, size_gib: int, *, is_thick: bool = False) -> None:
        """Make an image larger."""
        if image.image_format == "raw":
            self._lengthen(image.path, size_gib, is_thick=is_thick)
            return
        self._run("qemu-img", "resize", "-q", *_render_source(image), f"{size_gib}G")

    def _lengthen(self, path: str, size_gib: int, *, is_thick: bool) -> None:
        if not is_thick:
            self._run("truncate", "-s", f"{size_gib}G", path)
            return
        size_bytes, _ = self._run("stat", "-c", "%s", path)
        try:
            self._run("fallocate", "-l", f"{size_gib}G", path)
        except processutils.ProcessExecutionError:
            # It has taken all the room that there was, and the file is longer than its volume.
            self._run("truncate", "-s", size_bytes.strip(), path)
            raise

    def commit(self, image: Image) -> None:
        """Write what a file holds into the file below it; both stay, and both chains read the same afterwards."""
        self._run("qemu-img", "commit", "-q", "-d", *_render_source(image))

    def rebase(self, image: Image, below: Image) -> None:
        """Say that a file is backed by another one, which must read the same."""
        command = ("qemu-img", "rebase", "-q", "-u", "-b", below.name, "-F", below.image_format)
        self._run(*command, *_render_source(Image(image.path, image.image_format, image.key)))

    def make_whole(self, image: Image) -> None:
        """Write what a guest sees of the files below into a file, which then needs them no more."""
        self._run("qemu-img", "rebase", "-q", "-b", "", *_render_source(image))

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files; those that are not there are fine."""
        if paths:
            self._run("rm", "-f", "--", *paths)


def _parse_layer(found: dict[str, Any]) -> Layer:
    return Layer(
        os.path.basename(found["filename"]),
        found["format"],
        int(found["virtual-size"]),
        found.get("backing-filename"),
    )


def _render_secret(name: str, path: str) -> tuple[str, str]:
    return ("--object", f"secret,id={name},format=raw,file={path}")


def _find_prefix(image: Image) -> str:
    """How the options of its encryption begin: in qcow2 it is one part, in luks it is all."""
    return "" if image.image_format == "luks" else "encrypt."


def _render_source(image: Image) -> tuple[str, ...]:
    """An image that is opened, with its key, as arguments of qemu-img."""
    if image.key is None:
        return ("-f", image.image_format, image.path)
    return (*_render_secret(_KEY_ID, image.key), "--image-opts", _render_node(image))


def _render_node(image: Image) -> str:
    """An image that is opened, with the name of its key, as QEMU's options of a block device."""
    options = [f"driver={image.image_format}", "file.filename=" + image.path.replace(",", ",,")]
    prefix = _find_prefix(image)
    levels = range(image.depth + 1) if image.key else ()
    options += [f"{'backing.' * level}{prefix}key-secret={_KEY_ID}" for level in levels]
    return ",".join(options)


def _render_target(image: Image, cipher: dict[str, str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """An image that is made, as the secret and the options of qemu-img."""
    if image.key is None:
        return (), ()
    prefix = _find_prefix(image)
    options = [f"{prefix}format=luks"] if prefix else []
    options += [f"{prefix}key-secret=new", f"{prefix}iter-time={_STRETCHING_MS}"]
    for option, name in (("cipher-alg", "cipher_alg"), ("cipher-mode", "cipher_mode"), ("ivgen-alg", "ivgen_alg")):
        options += [f"{prefix}{option}={(cipher or {})[name]}"] if cipher else []
    return _render_secret("new", image.key), ("-o", ",".join(options))
