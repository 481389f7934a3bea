# SPDX-License-Identifier: Apache-2.0
"""Passphrases of encrypted volumes, as files that qemu-img reads.

Rule 1: a passphrase is in memory of this process that looks like a file, for as long as one command needs it: it is on
    no disk, and it is gone when the process is killed.
"""

from __future__ import annotations

import binascii
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from castellan import key_manager
from cinder.image import image_utils
from cinder.volume import volume_utils
from oslo_config import cfg


@contextlib.contextmanager
def passphrase_file(context: Any, key_id: str | None) -> Iterator[str | None]:
    """The path of a file that holds a passphrase; None for a volume that is not encrypted.

    Args:
        context: of the request, which must be allowed to read the key.
        key_id: of the key in the key manager; None: not encrypted.
    """
    if key_id is None:
        yield None
        return
    key = key_manager.API(cfg.CONF).get(context, key_id)
    with open(os.memfd_create("lustack-key"), "wb") as file:
        # As the guest's hypervisor and os-brick derive it. Source: cinder remotefs.py, _create_encrypted_volume_file.
        file.write(binascii.hexlify(key.get_encoded()))
        file.flush()
        # By the number of the process, since it is others that read it.
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def find_cipher(volume: Any) -> dict[str, str] | None:
    """How a volume is encrypted, as its type says; None: not."""
    if volume.encryption_key_id is None:
        return None
    encryption = volume_utils.check_encryption_provider(volume, volume.obj_context)
    found: dict[str, str] = image_utils.decode_cipher(encryption["cipher"], encryption["key_size"])
    return found
