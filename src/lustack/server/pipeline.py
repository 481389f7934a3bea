# SPDX-License-Identifier: Apache-2.0
"""What a request passes on its way to the proxy: the filters, their order, their options.

Rule 1: a filter that a pipeline names stands in `FILTERS`; its options can be overridden by the host.
Rule 2: the order of `DEFAULT` follows the sample of Swift 2.38 (etc/proxy-server.conf-sample,
`[pipeline:main]`).
"""

from __future__ import annotations

from collections.abc import Mapping

from lustack.errors import ConfigurationError
from lustack.server.ini import Sections

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

_KEYSTONE = ("authtoken", "s3api", "s3token", "keystoneauth")
"""What stands in place of s3api, and of tempauth, where Keystone says who somebody is.

Source: swift 2.38.3 common/middleware/s3api/s3api.py, "the pipeline with keystone".
"""

INTERNAL = ("catch_errors", "proxy-logging", "cache", "symlink")
"""The requests that Swift's daemons make by themselves."""

FILTERS: Mapping[str, Mapping[str, str]] = {
    "account-quotas": {"use": "egg:swift#account_quotas"},
    "authtoken": {"paste.filter_factory": "keystonemiddleware.auth_token:filter_factory"},
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
    "keystoneauth": {"use": "egg:swift#keystoneauth"},
    "listing_formats": {"use": "egg:swift#listing_formats"},
    "namespace": {"use": "egg:lustack#namespace"},
    "proxy-logging": {"use": "egg:swift#proxy_logging"},
    "ratelimit": {"use": "egg:swift#ratelimit"},
    "recon": {"use": "egg:swift#recon"},
    "s3api": {"use": "egg:swift#s3api"},
    "s3token": {"use": "egg:swift#s3token"},
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


def with_keystone(names: tuple[str, ...]) -> tuple[str, ...]:
    """A pipeline in which Keystone says who somebody is, in place of tempauth."""
    place = names.index("s3api")
    after = tuple(name for name in names[place + 1 :] if name != "tempauth")
    return (*names[:place], *_KEYSTONE, *after)


def sections(names: tuple[str, ...], app: str, *overrides: Sections) -> Sections:
    """The section of a pipeline, and one for each of its filters.

    Args:
        names: of the filters, in order.
        app: the name of what they lead to.
        overrides: options by filter; the later ones win.

    Raises:
        ConfigurationError: a filter that nobody knows.
    """
    found: dict[str, Mapping[str, str]] = {"pipeline:main": {"pipeline": " ".join((*names, app))}}
    for name in dict.fromkeys(names):
        options = dict(FILTERS.get(name, {}))
        for each in overrides:
            options |= each.get(name, {})
        if not options:
            raise ConfigurationError("pipeline", "filter", name, f"one of {', '.join(sorted(FILTERS))}")
        found[f"filter:{name}"] = options
    return found


def backend(kind: str, cache: str) -> Sections:
    """The pipeline of a server of accounts, containers or objects.

    Args:
        kind: `account`, `container` or `object`.
        cache: the directory of the figures that Swift's daemons leave for each other.
    """
    return sections(("healthcheck", "recon"), f"{kind}-server", {"recon": {"recon_cache_path": cache}})
