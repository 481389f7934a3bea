# SPDX-License-Identifier: Apache-2.0
"""A guest that boots in seconds and tells its console what happens to its disks.

A kernel of the distribution, busybox and one script, on a FAT file system of 64 MiB with a boot loader:

    GUEST-UP 1bf0…                                  the script has begun; another word for each boot
    GUEST-DISK vdb sectors=2097152 serial=… holds=… a disk came, or its size changed; what the guest finds in the block
                                                    at 1 MiB: what it wrote there, maybe in an earlier life
    GUEST-WROTE vdb 17                              a counter goes up in that block; said every few seconds

Each disk but the first is written to every second, and the counter goes on from what the disk holds: a disk that loses
writes goes back, and is seen doing so.
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

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs d /dev; $B mount -t proc p /proc; $B mount -t sysfs s /sys
exec </dev/console >/dev/console 2>&1
for m in @MODULES@; do [ -e /modules/$m.ko ] && $B insmod /modules/$m.ko; done
$B mkdir /nodes
# Which disk it is: another one has another number, however short its name was free.
look() { echo $($B cat /sys/block/$1/size 2>/dev/null)-$($B cat /sys/block/$1/diskseq 2>/dev/null); }
# Write to a disk if it is the one that is meant. By a node of our own, since a name in /dev that is free for a moment
# would become a file; and once it is open it is no other disk.
put() (
  exec 3<>/nodes/$1 || exit
  [ "$(look $1)" = "$2" ] || exit
  echo "GUEST-WROTE $1 $3" | $B dd bs=512 seek=2048 conv=sync,notrunc,fsync >&3
) 2>/dev/null
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
      holds=$($B dd if=/nodes/$disk bs=512 skip=2048 count=1 2>/dev/null | $B head -n 1 | $B tr -cd 'A-Za-z0-9 -')
      case $holds in "GUEST-WROTE "*) count=${holds##* } ;; *) count=0 ;; esac
      eval "key_$disk=$key"
      echo "GUEST-DISK $disk sectors=${key%-*} serial=$($B cat $directory/serial 2>/dev/null) holds=$holds"
    fi
    [ $disk = vda ] && continue
    count=$((count + 1))
    eval "count_$disk=$count"
    put $disk $key $count && [ $((turn % 3)) = 0 ] && echo "GUEST-WROTE $disk $count"
  done
  # A disk that went away is new when it comes back.
  for disk in vdb vdc vdd; do [ -e /sys/block/$disk ] || eval "key_$disk="; done
  $B sleep 1
done
"""

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


def _make_disk(raw: Path) -> None:
    kernel = _unpack_kernel()
    (BUILD / "syslinux.cfg").write_text(LOADER)
    _make_initrd(kernel)
    with raw.open("wb") as file:
        file.truncate(64 << 20)
    programs = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}
    for command in (
        ["mkfs.vfat", "-F", "32", raw],
        ["mcopy", "-i", raw, next(kernel.glob("boot/vmlinuz-*")), "::vmlinuz"],
        ["mcopy", "-i", raw, BUILD / "initrd.gz", BUILD / "syslinux.cfg", "::"],
        ["syslinux", "-i", raw],
    ):
        subprocess.run(command, check=True, capture_output=True, env=programs)


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
