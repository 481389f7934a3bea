# SPDX-License-Identifier: Apache-2.0
"""One volume and two guests."""

from __future__ import annotations

import pytest
from openstack import exceptions
from tests.openstack.cloud import KINDS, Cloud
from tests.openstack.console import DISK, GIB_SECTORS

pytestmark = pytest.mark.timeout(3600)


def test_two_guests_use_one_volume_and_it_stays_until_the_last_has_gone(cloud: Cloud):
    cloud.make_type("shared", volume_backend_name="qcow2", multiattach="<is> True")
    shared = cloud.make_volume("shared", "shared")
    assert cloud.recorded_format(shared) == "raw"
    roots = [cloud.make_volume("root", kind, image_id=cloud.image.id) for kind in KINDS]
    guests = [cloud.boot("server", root) for root in roots]
    for server, console in guests:
        cloud.attach(server, shared)
        console.disk(DISK, GIB_SECTORS)
        console.counter(DISK)
    assert len(cloud.mounts()) == len(KINDS)
    with pytest.raises(AssertionError, match="error"):
        cloud.snapshot(shared, "refused")
    assert [cloud.disk(server, shared)["format"] for server, _ in guests] == ["raw", "raw"]
    (first, _), (second, console) = guests
    cloud.detach(first, shared, "in-use")
    assert console.counter(DISK) > 0
    cloud.detach(second, shared)
    written = cloud.counter_of(shared)
    assert written > 0
    cloud.delete_servers(first, second)
    cloud.delete_everything()
    assert cloud.left_over() == []


def test_a_volume_that_is_not_for_sharing_is_refused_a_second_guest(cloud: Cloud):
    root, other, disk = (
        cloud.make_volume("root", "raw", image_id=cloud.image.id),
        cloud.make_volume("root", "raw", image_id=cloud.image.id),
        cloud.make_volume("disk", "raw"),
    )
    first, second = cloud.boot("first", root)[0], cloud.boot("second", other)[0]
    cloud.attach(first, disk)
    with pytest.raises(exceptions.HttpException):
        cloud.attach(second, disk)
    cloud.delete_servers(first, second)
    cloud.delete_everything()
    assert cloud.left_over() == []
