# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from lustack.doctor.findings import Finding, Verdict, is_ready, judge, render_json, render_text

GOOD = judge("qemu-img", "version 7.2", is_good=True, remedy="install it")
ODD = judge("nova", "version 35", is_good=False, remedy="try it", otherwise=Verdict.WARNING)
BAD = judge("locks", "not exclusive", is_good=False, remedy="mount with -o flock")


def test_what_is_good_needs_no_remedy():
    assert Finding("qemu-img", Verdict.OK, "version 7.2") == GOOD


def test_warnings_do_not_make_a_host_unready():
    assert is_ready([GOOD, ODD])
    assert not is_ready([GOOD, BAD])


def test_people_are_told_what_to_do():
    assert render_text([GOOD, ODD, BAD]).splitlines() == [
        "OK      qemu-img: version 7.2",
        "WARNING nova: version 35",
        "        -> try it",
        "BAD     locks: not exclusive",
        "        -> mount with -o flock",
        "not ready: 1 bad, 1 warnings, 3 checks",
    ]
    assert render_text([GOOD]).splitlines()[-1] == "ready: 0 bad, 0 warnings, 1 checks"


def test_programs_get_one_line():
    document = json.loads(render_json([BAD]))
    assert document == {
        "ready": False,
        "findings": [
            {"check": "locks", "verdict": "bad", "found": "not exclusive", "remedy": "mount with -o flock"},
        ],
    }
