# SPDX-License-Identifier: Apache-2.0
"""What a request passes on its way to the proxy: the filters, their order, their options.

Rule 1: a filter that a pipeline names stands in `FILTERS`; its options can be overridden by the host.
Rule 2: the order of `DEFAULT` follows the sample of Swift 2.38 (etc/proxy-server.conf-sample,
`[pipeline:main]`).
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = (
    "catch_errors",
    "gatekeeper",
    "healthcheck",
    "proxy-logging",
    "cache",
    "etag-quoter",
    "listing_formats",
    "bulk",
    "tempurl",
    "ratelimit",
    "s3api",
    "tempauth",
    "staticweb",
    "copy",
    "container-quotas",
    "account-quotas",
    "slo",
    "dlo",
    "versioned_writes",
    "symlink",
    "namespace",
    "proxy-logging",
)

# domain_remap must stand before listing_formats, or the listings of such requests have the wrong format
# (measured: two of Swift's functional tests fail otherwise).
CONFORMANCE = (
    *DEFAULT[: DEFAULT.index("listing_formats")],
    "domain_remap",
    "listing_formats",
    "container_sync",
    *DEFAULT[DEFAULT.index("listing_formats") + 1 :],
)
"""Everything that Swift's functional tests ask for."""

INTERNAL = ("catch_errors", "proxy-logging", "cache", "symlink")
"""The requests that Swift's daemons make by themselves."""

FILTERS: Mapping[str, Mapping[str, str]] = {
    "account-quotas": {"use": "egg:swift#account_quotas"},
    "bulk": {"use": "egg:swift#bulk"},
    "catch_errors": {"use": "egg:swift#catch_errors"},
    "container-quotas": {"use": "egg:swift#container_quotas"},
    "container_sync": {"use": "egg:swift#container_sync"},
    "copy": {"use": "egg:swift#copy"},
    "dlo": {"use": "egg:swift#dlo"},
    "domain_remap": {"use": "egg:swift#domain_remap"},
    "etag-quoter": {"use": "egg:swift#etag_quoter"},
    "gatekeeper": {"use": "egg:swift#gatekeeper"},
    "healthcheck": {"use": "egg:swift#healthcheck"},
    "listing_formats": {"use": "egg:swift#listing_formats"},
    "namespace": {"use": "egg:lustack#namespace"},
    "proxy-logging": {"use": "egg:swift#proxy_logging"},
    "ratelimit": {"use": "egg:swift#ratelimit"},
    "recon": {"use": "egg:swift#recon"},
    "s3api": {"use": "egg:swift#s3api"},
    "slo": {"use": "egg:swift#slo"},
    "staticweb": {"use": "egg:swift#staticweb"},
    "symlink": {"use": "egg:swift#symlink"},
    "tempauth": {"use": "egg:swift#tempauth"},
    "tempurl": {"use": "egg:swift#tempurl"},
    "versioned_writes": {
        "use": "egg:swift#versioned_writes",
        "allow_versioned_writes": "true",
        "allow_object_versioning": "true",
    },
}
"""Every filter we know but `cache`, which depends on whether there is a memcached (`render`)."""
