# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.server import pipeline


@pytest.mark.parametrize("names", [pipeline.DEFAULT, pipeline.CONFORMANCE, pipeline.INTERNAL])
def test_every_filter_of_a_pipeline_is_known(names):
    assert set(names) - {"cache"} <= set(pipeline.FILTERS)


def test_the_namespace_sees_every_request_that_a_filter_makes():
    assert pipeline.DEFAULT[-2:] == ("namespace", "proxy-logging")


def test_the_conformance_tests_get_more_and_nothing_less():
    assert set(pipeline.CONFORMANCE) - set(pipeline.DEFAULT) == {"domain_remap", "container_sync"}
    assert [name for name in pipeline.CONFORMANCE if name in pipeline.DEFAULT] == list(pipeline.DEFAULT)
    assert pipeline.CONFORMANCE.index("domain_remap") < pipeline.CONFORMANCE.index("listing_formats")
