# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from typing import get_type_hints

import pytest

from lustack.errors import ConfigurationError
from lustack.server import site
from lustack.server.site import SAMPLE, parse

SMALL = """\
[nodes]
proxies = ["10.0.0.1"]
databases = ["10.0.0.1/d1"]
memcached = ["10.0.0.1:11211"]
[[policies]]
index = 0
name = "lustre"
device = "lustre"
[auth]
kind = "tempauth"
users = ["test:tester:testing"]
"""


def test_the_sample_is_a_site_and_holds_every_key():
    assert parse(SAMPLE, "site.toml").nodes.proxies == ("10.0.0.11", "10.0.0.12")
    tables = tomllib.loads(SAMPLE)
    tables["policies"] = tables["policies"][0]
    classes = {**site._TABLES, "policies": site.Policy}
    missing = {(name, key) for name, cls in classes.items() for key in get_type_hints(cls) if key not in tables[name]}
    assert missing == {("auth", "users")}


def test_what_the_sample_calls_a_default_is_one():
    sample = parse(SAMPLE, "site.toml")
    for name in ("places", "ports"):
        assert getattr(sample, name) == site._TABLES[name]()
    ours = replace(sample.swift, hash_path_prefix="", hash_path_suffix="", replicas=0)
    assert ours == site.Swift()


def test_what_is_left_out_is_chosen():
    small = parse(SMALL, "site.toml")
    assert (small.daemons, small.replicas, small.everybody) == (("10.0.0.1",), 1, ("10.0.0.1",))
    assert {each.name for each in fields(small)} == set(vars(small))


def test_every_node_is_named_once():
    assert parse(SAMPLE, "x").everybody == ("10.0.0.11", "10.0.0.12", "10.0.0.21", "10.0.0.22", "10.0.0.23")


def test_a_policy_0_that_is_not_ours_can_be_there():
    text = SMALL.replace("index = 0", "index = 1")
    with pytest.raises(ConfigurationError, match="storage-policy:0"):
        parse(text, "site.toml")
    other = text + '[override."swift.conf"."storage-policy:0"]\nname = "disks"\n'
    assert parse(other, "site.toml").policies[0].index == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[nodes]", "[nodes", "TOML"),
        ("[nodes]", "[knots]", "table = 'knots'"),
        ("proxies", "proxy", "key = 'proxy'"),
        ("[nodes]\n", "x = 1\n[nodes]\n", "table = 'x'"),
        ("[auth]", "nodes = 1\n[auth]", "key = 'nodes'"),
        ('proxies = ["10.0.0.1"]', "proxies = [1]", "a list of texts"),
        ('proxies = ["10.0.0.1"]', 'proxies = "10.0.0.1"', "a list of texts"),
        ('proxies = ["10.0.0.1"]', "proxies = []", "one node or more"),
        ('proxies = ["10.0.0.1"]\n', "", "proxies = None, but it must be given"),
        ('proxies = ["10.0.0.1"]', 'proxies = ["proxy1"]', "an IP address"),
        ("10.0.0.1/d1", "10.0.0.1", "ADDRESS/DEVICE"),
        ("10.0.0.1/d1", "10.0.0.1/d 1", "ADDRESS/DEVICE"),
        ("index = 0", "index = true", "a number"),
        ("index = 0", 'index = "0"', "a number"),
        ('name = "lustre"', "name = 1", "a text"),
        ('device = "lustre"', 'device = "a/b"', "a name of"),
        ('device = "lustre"', 'device = "lustre"\ndefault = 1', "true or false"),
        ('[[policies]]\nindex = 0\nname = "lustre"\ndevice = "lustre"\n', "", "one table"),
        ('"tempauth"', '"ldap"', "keystone or tempauth"),
        ('users = ["test:tester:testing"]', "", "given for tempauth"),
        ("test:tester:testing", "test:tester", "ACCOUNT:USER:KEY"),
        ('kind = "tempauth"', 'kind = "keystone"', "www_authenticate_uri"),
        ("[auth]", '[places]\ndevices = "srv"\n[auth]', "an absolute path"),
        ("[auth]", "[swift]\nreplicas = 2\n[auth]", "from 1 to 1"),
        ('proxies = ["10.0.0.1"]', 'proxies = ["10.0.0.1", "10.0.0.2"]', "coordination_url"),
        ("[auth]", '[override]\nx = "y"\n[auth]', "options as texts"),
        ("[auth]", '[override."a.conf"]\nx = "y"\n[auth]', "options as texts"),
        ("[auth]", '[override."a.conf".s]\nx = 1\n[auth]', "options as texts"),
        ("[nodes]", "override = 1\n[nodes]", "options as texts"),
        ("[nodes]", "places = 1\n[nodes]", "a table"),
        ("[auth]", '[[policies]]\nindex = 1\nname = "b"\ndevice = "lustre"\n[auth]', "another one for each"),
        (
            'device = "lustre"\n',
            'device = "lustre"\ndefault = true\n[[policies]]\nindex = 1\nname = "b"\ndevice = "b"\ndefault = true\n',
            "true for one policy",
        ),
    ],
)
def test_what_is_wrong_is_named(old, new, said):
    assert old in SMALL
    with pytest.raises(ConfigurationError) as caught:
        parse(SMALL.replace(old, new, 1), "site.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("site.toml: ")
