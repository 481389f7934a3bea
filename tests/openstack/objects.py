# SPDX-License-Identifier: Apache-2.0
"""A Swift for the users of a stand: what `lustack config render` writes, with the stand's Keystone.

    with objects.running(stand) as swift: ...

What its administrator has to do in Keystone is in `_users` and `_endpoint`, as doc/swift-deep.md says it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
import botocore.config
from tests.functional import rendered
from tests.functional.client import NO_HEADERS, Answer
from tests.openstack import catalogue
from tests.openstack.crew import PROGRAMS
from tests.openstack.settings import PASSWORD, REGION, Site
from tests.openstack.stand import Stand

AUTH = """kind = "keystone"
www_authenticate_uri = "{url}"
auth_url = "{url}"
username = "swift"
password = "{password}"
"""
ROLES = ("service", "admin")
ANSWER_S = 300


@dataclass(frozen=True)
class Person:
    """A user in a project.

    Attributes:
        name: of the user, and of the project.
        user_id: the user's.
        project_id: the project's.
        token: of Keystone, of the user in the project.
    """

    name: tuple[str, str]
    user_id: str
    project_id: str
    token: str


@dataclass(frozen=True)
class Swift:
    """A Swift that runs.

    Attributes:
        site: of the stand.
        cluster: its servers and files.
    """

    site: Site
    cluster: rendered.Cluster

    def person(self, user: str, project: str) -> Person:
        with catalogue.connect(self.site, project, user) as cloud:
            return Person((user, project), cloud.current_user_id, cloud.current_project_id, cloud.auth_token)

    def directory(self, person: Person, container: str) -> Path:
        """Where the files of a container lie."""
        return self.cluster.device / f"AUTH_{person.project_id}" / container

    def path(self, person: Person, *names: str) -> str:
        """The path of an account, a container or an object of a person's project."""
        return urllib.parse.quote("/".join((f"/v1/AUTH_{person.project_id}", *names)))

    def ask(
        self, method: str, path: str, token: str = "", body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """One request, with a connection of its own; without a token: of nobody."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.cluster.url).netloc, timeout=ANSWER_S)
        shown = {"X-Auth-Token": token} if token else {}
        try:
            connection.request(method, path, body, {**shown, **headers})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def client(self, person: Person, *arguments: str | Path, place: Path) -> str:
        """What python-swiftclient's `swift` prints, which asks Keystone where Swift is.

        Raises:
            AssertionError: it failed.
        """
        user, project = person.name
        known = {
            "OS_AUTH_URL": f"{self.site.url('keystone')}/v3",
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": REGION,
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "PYTHONWARNINGS": "ignore",
        }
        command = [PROGRAMS / "swift", *arguments]
        done = subprocess.run(
            command, cwd=place, env=os.environ | known, capture_output=True, text=True, check=False, timeout=ANSWER_S
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.log()
        return done.stdout

    def keys(self, person: Person) -> tuple[str, str]:
        """EC2 credentials that a person makes in Keystone: an access key and its secret."""
        with catalogue.connect(self.site, person.name[1], person.name[0]) as cloud:
            place = f"/users/{person.user_id}/credentials/OS-EC2"
            made = cloud.identity.post(place, json={"tenant_id": person.project_id}).json()["credential"]
            return made["access"], made["secret"]

    @contextlib.contextmanager
    def s3(self, access: str, secret: str) -> Iterator:
        """A client of S3 with these keys."""
        config = botocore.config.Config(
            s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=ANSWER_S
        )
        client = boto3.client(
            "s3",
            endpoint_url=self.cluster.url,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=config,
        )
        try:
            yield client
        finally:
            client.close()

    def remembers(self, key: str) -> bool:
        """Whether memcached has something that Swift's client has put there."""
        with socket.create_connection(("127.0.0.1", self.cluster.port["memcached"]), ANSWER_S) as connection:
            # Source: swift 2.38.3, common/memcached.py, md5hash.
            connection.sendall(f"get {hashlib.md5(key.encode()).hexdigest()}\r\nquit\r\n".encode())
            with connection.makefile("rb") as answer:
                return answer.read().startswith(b"VALUE")

    def log(self) -> str:
        """What the servers have said."""
        return "\n".join(path.read_text(errors="replace")[-20000:] for path in sorted(self.cluster.log.iterdir()))


@contextlib.contextmanager
def running(stand: Stand) -> Iterator[Swift]:
    """Run a Swift beside a stand, whose Keystone knows it for the time of a block."""
    site = stand.site
    base, device = site.root / "swift", stand.cinder.files / "objects"
    with contextlib.ExitStack() as stack:
        for directory in (base, device):
            directory.mkdir()
            stack.callback(shutil.rmtree, directory)
        auth = AUTH.format(url=site.url("keystone"), password=PASSWORD)
        stack.enter_context(_users(site))
        cluster = stack.enter_context(rendered.running(base, device, auth))
        stack.enter_context(_endpoint(site, cluster.url))
        yield Swift(site, cluster)


@contextlib.contextmanager
def _users(site: Site) -> Iterator[None]:
    """Keystone knows the user that Swift asks it as, and one of the project `demo` who may not change anything."""
    with contextlib.ExitStack() as stack, catalogue.connect(site, "admin") as cloud:
        identity = cloud.identity
        for name, project_name, roles in (("swift", "service", ROLES), ("reader", "demo", ("reader",))):
            user = identity.create_user(name=name, password=PASSWORD, domain_id="default")
            stack.callback(identity.delete_user, user)
            project = identity.find_project(project_name)
            for role in roles:
                identity.assign_project_role_to_user(project, user, identity.find_role(role))
        yield


@contextlib.contextmanager
def _endpoint(site: Site, url: str) -> Iterator[None]:
    """Keystone tells clients where Swift is."""
    with contextlib.ExitStack() as stack, catalogue.connect(site, "admin") as cloud:
        identity = cloud.identity
        service = identity.create_service(name="swift", type="object-store")
        stack.callback(identity.delete_service, service)
        place = f"{url}/v1/AUTH_%(project_id)s"
        identity.create_endpoint(service_id=service.id, interface="public", url=place, region_id=REGION)
        yield
