# SPDX-License-Identifier: Apache-2.0
"""Network identities of Lustre nodes, as records hold them -> as people write them.

    small form: offset 0 u64 little-endian: network type << 48 | network number << 32 | address
    large form: offset 0 u8 size - 8, 1 u8 network type, 2 u16 big-endian network number, 4 address, 4 to 16 bytes

Source: lnet-types.h and lnet-idl.h, lnet_nid_t and struct lnet_nid; lnet/nidstr.h for the numbers of the networks.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

_NETWORKS: Final = {2: "tcp", 5: "o2ib", 9: "lo", 13: "gni", 15: "ptlf", 16: "kfi"}
_WITH_IP_ADDRESS: Final = frozenset({2, 5})
_SMALL: Final = struct.Struct("<IHH")
_LARGE: Final = struct.Struct(">BBH")
_LARGE_AT: Final = 4
_SHORTEST: Final = 8
_LONGEST: Final = 16


def render_nid(nid: bytes, *, is_big: bool) -> str:
    """A NID as `lfs changelog` writes it; hexadecimal digits where the bytes are too few.

    Args:
        nid: the bytes of a record, at least 8, or 20 in the large form.
        is_big: whether it is in the large form.
    """
    if is_big and len(nid) >= _LARGE_AT + _LONGEST:
        size, network, number = _LARGE.unpack_from(nid)
        address = nid[_LARGE_AT : _LARGE_AT + min(size + 4, _LONGEST)]
    elif not is_big and len(nid) >= _SHORTEST:
        small, number, network = _SMALL.unpack_from(nid)
        address = small.to_bytes(4, "big")
    else:
        return nid.hex()
    where = f"{_NETWORKS[network]}{number or ''}" if network in _NETWORKS else f"<{network}:{number}>"
    return f"{_render_address(network, address)}@{where}"


def _render_address(network: int, address: bytes) -> str:
    if network in _WITH_IP_ADDRESS and len(address) in (4, 16):
        return str(ipaddress.ip_address(address))
    return str(int.from_bytes(address, "big"))
