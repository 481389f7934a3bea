# SPDX-License-Identifier: Apache-2.0
"""A guest that boots in seconds and tells its console what happens to its disks.

A kernel of the distribution, busybox and one script, on a FAT file system of 64 MiB with a boot loader:

    GUEST-UP 1bf0…                                  the script has begun; another word for each boot
    GUEST-DISK vdb sectors=2097152 serial=… holds=… a disk came, or its size changed; what the guest finds in the block
                                                    at 1 MiB: what it wrote there, maybe in an earlier life
    GUEST-WROTE vdb 17                              a counter goes up in that block; said every few seconds

Each disk but the first is written to every second, and the counter goes on from what the disk holds: a disk that loses
writes goes back, and is seen doing so. On the first one the block is behind the file system, and only a guest of
`labelled` writes to it, which says first which one it is:

    GUEST-IMAGE second
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "guest"
MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk")
# Kernels for virtual machines, of Debian and of Ubuntu.
KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual")
BLOCK, ROOT_BLOCK = 2048, 262144
"""Where the counter of a disk is, and that of the first: at 1 MiB and at 128 MiB, in 512 bytes."""

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs d /dev; $B mount -t proc p /proc; $B mount -t sysfs s /sys
exec </dev/console >/dev/console 2>&1
for m in @MODULES@; do [ -e /modules/$m.ko ] && $B insmod /modules/$m.ko; done
$B mkdir /nodes
# Which disk it is: another one has another number, however short its name was free.
look() { echo $($B cat /sys/block/$1/size 2>/dev/null)-$($B cat /sys/block/$1/diskseq 2>/dev/null); }
where() { [ $1 = vda ] && echo @ROOT_BLOCK@ || echo @BLOCK@; }
# Write to a disk if it is the one that is meant. By a node of our own, since a name in /dev that is free for a moment
# would become a file; and once it is open it is no other disk.
put() (
  exec 3<>/nodes/$1 || exit
  [ "$(look $1)" = "$2" ] || exit
  echo "GUEST-WROTE $1 $3" | $B dd bs=512 seek=$(where $1) conv=sync,notrunc,fsync >&3
) 2>/dev/null
[ -n "$guest_image" ] && echo GUEST-IMAGE $guest_image
echo GUEST-UP $($B cat /proc/sys/kernel/random/boot_id)
turn=0
while :; do
  turn=$((turn + 1))
  for directory in /sys/block/vd*; do
    [ -e $directory/size ] || continue
    disk=${directory##*/}
    key=$(look $disk)
    eval "known=\\$key_$disk count=\\$count_$disk"
    if [ "$known" != "$key" ]; then
      $B rm -f /nodes/$disk
      $B mknod /nodes/$disk b $($B tr : ' ' <$directory/dev)
      place="bs=512 skip=$(where $disk) count=1"
      holds=$($B dd if=/nodes/$disk $place 2>/dev/null | $B head -n 1 | $B tr -cd 'A-Za-z0-9 -')
      case $holds in "GUEST-WROTE "*) count=${holds##* } ;; *) count=0 ;; esac
      eval "key_$disk=$key"
      echo "GUEST-DISK $disk sectors=${key%-*} serial=$($B cat $directory/serial 2>/dev/null) holds=$holds"
    fi
    [ $disk = vda ] && [ -z "$guest_image" ] && continue
    count=$((count + 1))
    eval "count_$disk=$count"
    put $disk $key $count && [ $((turn % 3)) = 0 ] && echo "GUEST-WROTE $disk $count"
  done
  # A disk that went away is new when it comes back.
  for disk in vdb vdc vdd; do [ -e /sys/block/$disk ] || eval "key_$disk="; done
  $B sleep 1
done
""".replace("@ROOT_BLOCK@", str(ROOT_BLOCK)).replace("@BLOCK@", str(BLOCK))

LOADER = """SERIAL 0 115200
DEFAULT lustack
LABEL lustack
 KERNEL vmlinuz
 INITRD initrd.gz
 APPEND console=ttyS0 panic=1 loglevel=4 no_timer_check
"""


def image() -> Path:
    """The guest's disk as qcow2, made when it is not there yet.

    Raises:
        subprocess.CalledProcessError: a program failed; the kernel's package cannot be had.
    """
    word = hashlib.sha256(f"{INIT}{LOADER}{MODULES}".encode()).hexdigest()[:12]
    made = BUILD / f"guest-{word}.qcow2"
    if not made.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        raw, unfinished = BUILD / "guest.raw", BUILD / "unfinished.qcow2"
        _make_disk(raw)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, unfinished], check=True)
        unfinished.rename(made)
        raw.unlink()
    return made


def labelled(word: str, to: Path) -> Path:
    """Another disk of the guest, raw, that says which one it is when it boots, and is written to.

    Args:
        word: what it says.
        to: an existing directory.

    Raises:
        subprocess.CalledProcessError: a program failed.
    """
    raw, loader = to / f"guest-{word}.raw", to / "syslinux.cfg"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image(), raw], check=True)
    # What the kernel does not know, it hands over in the environment.
    loader.write_text(LOADER.replace("APPEND", f"APPEND guest_image={word}"))
    subprocess.run(["mcopy", "-o", "-i", raw, loader, "::"], check=True, capture_output=True, env=_environment())
    loader.unlink()
    return raw


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}


def _make_disk(raw: Path) -> None:
    kernel = _unpack_kernel()
    (BUILD / "syslinux.cfg").write_text(LOADER)
    _make_initrd(kernel)
    with raw.open("wb") as file:
        file.truncate(64 << 20)
    for command in (
        ["mkfs.vfat", "-F", "32", raw],
        ["mcopy", "-i", raw, next(kernel.glob("boot/vmlinuz-*")), "::vmlinuz"],
        ["mcopy", "-i", raw, BUILD / "initrd.gz", BUILD / "syslinux.cfg", "::"],
        ["syslinux", "-i", raw],
    ):
        subprocess.run(command, check=True, capture_output=True, env=_environment())


def _unpack_kernel() -> Path:
    """Get a kernel's package, unpacked and not installed: the host's own may be none for virtual machines."""
    place = BUILD / "kernel"
    if place.exists():
        return place
    # apt gives up its rights for a download, and may then not write here.
    apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download"]
    subprocess.run([*apt, _find_kernel()], check=True, cwd=BUILD)
    unfinished = BUILD / "unfinished"
    subprocess.run(["dpkg-deb", "-x", next(BUILD.glob("linux-image-*.deb")), unfinished], check=True)
    return unfinished.rename(place)


def _find_kernel() -> str:
    """The package that the newest kernel for virtual machines is in."""
    for name in KERNELS:
        found = subprocess.run(["apt-cache", "depends", name], capture_output=True, text=True, check=False).stdout
        wanted = [line.split()[-1] for line in found.splitlines() if "Depends: linux-image-" in line]
        if wanted:
            return wanted[0]
    raise FileNotFoundError(f"none of these packages: {', '.join(KERNELS)}")


def _make_initrd(kernel: Path) -> None:
    tree = BUILD / "initrd"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    for name in MODULES:
        _copy_module(kernel, name, tree / "modules" / f"{name}.ko")
    (tree / "init").write_text(INIT.replace("@MODULES@", " ".join(MODULES)))
    (tree / "init").chmod(0o755)
    pack = "find . | cpio --quiet -o -H newc | gzip -9 >../initrd.gz"
    subprocess.run(["bash", "-euo", "pipefail", "-c", pack], check=True, cwd=tree)


def _copy_module(kernel: Path, name: str, to: Path) -> None:
    """Copy a module that is not part of the kernel itself."""
    for found in kernel.rglob(f"{name}.ko*"):
        content = found.read_bytes()
        to.write_bytes(lzma.decompress(content) if found.suffix == ".xz" else content)
