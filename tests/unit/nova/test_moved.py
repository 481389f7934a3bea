# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import nova.conf
import pytest
from keystoneauth1 import exceptions as keystone_errors
from nova import context
from nova.volume import cinder as client
from oslo_context import context as current
from oslo_messaging import exceptions as messaging_errors

from lustack.nova import moved
from lustack.nova.moved import UnknownPlaceError

VOLUME = "0f1e2d3c-0000-4000-8000-000000000001"
ONE = SimpleNamespace(uuid="instance-one")
RECORDED = {"driver_volume_type": "lustre", "serial": VOLUME, "data": {"export": "mds:/old", "name": "volume-1"}}
PLACE = {"export": "mds:/new", "name": "volume-2", "format": "qcow2"}


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """The thread works for nobody."""
    monkeypatch.setattr(current.get_current.__globals__["_request_store"], "context", None, raising=False)


def test_the_place_is_the_one_of_the_attachment_that_nova_knows(cinder):
    cinder.attach(VOLUME, ONE, PLACE)
    assert moved.ask(RECORDED, ONE) == PLACE


def test_cinder_is_asked_for_the_user_who_waits(cinder):
    cinder.attach(VOLUME, ONE, PLACE)
    user = context.RequestContext("user", "project", is_admin=False, auth_token="token")
    moved.ask(RECORDED, ONE)
    assert cinder.asked == [user]


@pytest.mark.parametrize("make", [lambda: None, lambda: context.RequestContext(is_admin=False), current.RequestContext])
def test_cinder_is_asked_by_nova_itself_where_nobody_waits(cinder, make):
    cinder.attach(VOLUME, ONE, PLACE)
    make()
    moved.ask(RECORDED, ONE)
    (asked,) = cinder.asked
    assert (asked.is_admin, asked.auth_token) == (True, None)


def test_an_attachment_that_nova_does_not_know_is_no_place(cinder):
    with pytest.raises(UnknownPlaceError, match=f"No volume Block Device Mapping with id {VOLUME}"):
        moved.ask(RECORDED, ONE)


@pytest.mark.expects_log("Show attachment failed")
def test_an_attachment_that_cinder_does_not_know_is_no_place(cinder, monkeypatch):
    cinder.attach(VOLUME, ONE, PLACE)
    monkeypatch.setattr(cinder, "find_mapping", lambda *_: SimpleNamespace(attachment_id="gone"))
    monkeypatch.setattr(moved.objects.BlockDeviceMapping, "get_by_volume_and_instance", cinder.find_mapping)
    with pytest.raises(UnknownPlaceError, match="attachment gone could not be found"):
        moved.ask(RECORDED, ONE)


def test_a_volume_of_another_driver_is_no_place(cinder):
    cinder.attach(VOLUME, ONE, PLACE, kind="rbd")
    with pytest.raises(UnknownPlaceError, match="is of type rbd"):
        moved.ask(RECORDED, ONE)


@pytest.mark.parametrize(
    "trouble",
    [keystone_errors.MissingAuthPlugin("no credentials"), messaging_errors.MessagingTimeout("no credentials")],
)
def test_what_keeps_nova_from_asking_is_said(cinder, trouble):
    cinder.attach(VOLUME, ONE, PLACE)
    cinder.trouble = trouble
    with pytest.raises(UnknownPlaceError, match="Cinder cannot be asked where it is: no credentials"):
        moved.ask(RECORDED, ONE)


@pytest.mark.expects_log(r"The \[cinder\] section of your nova configuration file must be configured")
@pytest.mark.expects_log("Show attachment failed")
def test_without_credentials_nova_itself_cannot_ask(cinder, monkeypatch):
    cinder.attach(VOLUME, ONE, PLACE)
    nova.conf.CONF([], project="nova", default_config_files=[])
    monkeypatch.setattr(client, "cinderclient", lambda asking, *_, **__: client._get_auth(asking))
    with pytest.raises(UnknownPlaceError, match="Unknown auth type: None"):
        moved.ask(RECORDED, ONE)
