# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc

import pytest

from lustack.sync import garbage


@pytest.fixture(autouse=True)
def as_before():
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_look_for_garbage_comes_after_many_objects_and_spares_what_is_old():
    later = gc.get_threshold()[1:]
    garbage.collect_seldom()
    assert gc.get_threshold() == (garbage.OBJECTS, *later)
    assert gc.get_freeze_count() > 0
