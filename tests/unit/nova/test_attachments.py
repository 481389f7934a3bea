# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.nova.attachments import find_aliases, key_of

COPY = "0f1e2d3c-0000-4000-8000-000000000009"


@pytest.mark.parametrize(
    ("file_name", "volume_id", "key"),
    [
        ("volume-1234", "1234", "volume-1234"),
        ("volume-1234.snap-1", "1234", "volume-1234"),
        ("vol_1234_disk.snap", "1234", "vol_1234"),
        ("managed.img", "1234", "managed.img"),
        ("volume-1234", None, "volume-1234"),
        ("volume-1234", "", "volume-1234"),
        (f"volume-{COPY}", "1234", f"volume-{COPY}"),
        (f"volume-{COPY}.0f1e2d3c-0000-4000-8000-00000000000a", "1234", f"volume-{COPY}"),
    ],
)
def test_an_attachment_is_counted_under_the_name_of_the_volume(file_name, volume_id, key):
    assert key_of(file_name, volume_id) == key


def test_names_of_the_same_volume_for_the_same_instance_are_found():
    counted = {("v-1.b", "i"), ("v-1.a", "i"), ("v-1", "i"), ("v-10", "i"), ("v-1.a", "other")}
    assert find_aliases(counted, "v-1", "i") == ["v-1.a", "v-1.b"]
