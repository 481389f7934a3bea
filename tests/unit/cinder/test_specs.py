# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.cinder.errors import SpecError
from lustack.cinder.specs import Defaults, VolumeSpec, decide


@pytest.mark.parametrize(
    ("specs", "defaults", "expected"),
    [
        ({}, Defaults(), VolumeSpec("raw")),
        ({}, Defaults(is_qcow2=True), VolumeSpec("qcow2")),
        ({}, Defaults(is_sparse=False), VolumeSpec("raw", is_thick=True)),
        ({}, Defaults(is_qcow2=True, is_sparse=False), VolumeSpec("qcow2")),
        ({"lustre:format": "raw"}, Defaults(is_qcow2=True), VolumeSpec("raw")),
        ({"lustre:format": "qcow2"}, Defaults(), VolumeSpec("qcow2")),
        ({"provisioning:type": "thick"}, Defaults(), VolumeSpec("raw", is_thick=True)),
        ({"provisioning:type": "thin"}, Defaults(is_sparse=False), VolumeSpec("raw")),
        ({"lustre:copies": "full"}, Defaults(), VolumeSpec("raw")),
        ({"lustre:copies": "linked"}, Defaults(is_qcow2=True), VolumeSpec("qcow2", is_linked=True)),
        ({"lustre:copies": "linked"}, Defaults(is_sparse=False), VolumeSpec("raw", is_thick=True)),
        ({"lustre:copies": "linked", "lustre:project": "7"}, Defaults(), VolumeSpec("raw", project=7)),
        ({"lustre:stripe_count": "-1"}, Defaults(), VolumeSpec("raw", layout=("-c", "-1"))),
        (
            {"lustre:pool": "fs.flash", "lustre:stripe_size": "4M"},
            Defaults(),
            VolumeSpec("raw", layout=("-S", "4M", "-p", "fs.flash")),
        ),
        (
            {"lustre:layout": "-E 1G -c 1 -E -1 -c 8"},
            Defaults(),
            VolumeSpec("raw", layout=("-E", "1G", "-c", "1", "-E", "-1", "-c", "8")),
        ),
        ({"lustre:project": "7"}, Defaults(), VolumeSpec("raw", project=7)),
        ({"volume_backend_name": "x"}, Defaults(), VolumeSpec("raw")),
    ],
)
def test_a_type_and_the_configuration_decide_together(specs: dict[str, str], defaults: Defaults, expected: VolumeSpec):
    assert decide(specs, defaults) == expected


def test_encryption_needs_a_container_and_sharing_forbids_one():
    assert decide({}, Defaults(), is_encrypted=True) == VolumeSpec("qcow2")
    assert decide({}, Defaults(is_qcow2=True), is_shared=True) == VolumeSpec("raw")
    assert decide({"multiattach": "<is> True"}, Defaults(is_qcow2=True)) == VolumeSpec("raw")
    assert decide({"multiattach": "<is> False"}, Defaults(is_qcow2=True)) == VolumeSpec("qcow2")
    linked = {"lustre:copies": "linked"}
    assert decide(linked, Defaults(), is_encrypted=True) == VolumeSpec("qcow2")
    assert decide(linked, Defaults(), is_shared=True) == VolumeSpec("raw")
    for specs, is_encrypted in (({"lustre:format": "qcow2"}, False), ({}, True)):
        with pytest.raises(SpecError, match="multi-attached"):
            decide(specs, Defaults(), is_encrypted=is_encrypted, is_shared=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lustre:format", "vmdk"),
        ("lustre:copies", "some"),
        ("provisioning:type", "fat"),
        ("lustre:stripe_count", "many"),
        ("lustre:stripe_size", "4 M"),
        ("lustre:pool", "../x"),
        ("lustre:project", "-1"),
        ("lustre:layout", ""),
        ("lustre:layout", "-c"),
        ("lustre:layout", "-c 4 /etc/passwd x"),
        ("lustre:layout", "-x 4"),
        ("lustre:strip_count", "4"),
    ],
)
def test_what_is_not_possible_is_refused_with_its_name(key: str, value: str):
    with pytest.raises(SpecError, match=key):
        decide({key: value}, Defaults())


def test_a_layout_says_everything_about_stripes():
    with pytest.raises(SpecError, match="alone"):
        decide({"lustre:layout": "-c 4", "lustre:stripe_size": "4M"}, Defaults())
