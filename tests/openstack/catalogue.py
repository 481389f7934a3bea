# SPDX-License-Identifier: Apache-2.0
"""Who there is, and where the services are: users, roles, projects and the catalogue of Keystone."""

from __future__ import annotations

import openstack
from tests.openstack.settings import PASSWORD, REGION, Site

ROLES = ("service", "creator", "member", "reader")
PROJECTS = ("service", "demo", "cinder-internal")
SERVICE_USERS = ("cinder", "nova", "glance", "placement")
USERS = ("demo", "cinder-internal")

# Service, its type, and the path of its URL.
CATALOGUE = (
    ("keystone", "identity", "/v3"),
    ("glance", "image", ""),
    ("placement", "placement", ""),
    ("cinder", "block-storage", "/v3"),
    ("neutron", "network", ""),
    ("nova", "compute", "/v2.1"),
)

OPENRC = """export OS_AUTH_URL={url}/v3 OS_IDENTITY_API_VERSION=3 OS_REGION_NAME={region}
export OS_USERNAME=admin OS_PASSWORD={password} OS_PROJECT_NAME={project}
export OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default
export OS_VOLUME_API_VERSION=3.71 OS_COMPUTE_API_VERSION=2.95 PYTHONWARNINGS=ignore
"""


def connect(site: Site, project: str, user: str = "admin") -> openstack.connection.Connection:
    """A client of everything."""
    cloud = openstack.connect(
        auth_url=f"{site.url('keystone')}/v3",
        username=user,
        password=PASSWORD,
        project_name=project,
        user_domain_name="Default",
        project_domain_name="Default",
        region_name=REGION,
        block_storage_default_microversion="3.71",
        compute_default_microversion="2.95",
        identity_endpoint_override=f"{site.url('keystone')}/v3",
        load_yaml_config=False,
        load_envvars=False,
    )
    # A connection for each request, so that none is kept open from one test to the next.
    cloud.session.additional_headers["Connection"] = "close"
    return cloud


def fill(site: Site) -> tuple[str, str]:
    """Make users and the catalogue.

    Returns:
        Ids of the project and the user that own what Cinder makes for itself.
    """
    with connect(site, "admin") as cloud:
        identity = cloud.identity
        roles = {role.name: role for role in identity.roles()}
        roles |= {name: identity.create_role(name=name) for name in ROLES if name not in roles}
        projects = {name: identity.create_project(name=name, domain_id="default") for name in PROJECTS}
        users = {
            name: identity.create_user(name=name, password=PASSWORD, domain_id="default")
            for name in (*SERVICE_USERS, *USERS)
        }
        users["admin"] = identity.find_user("admin")
        grants = [("service", name, role) for name in SERVICE_USERS for role in ("admin", "service")]
        grants += [("demo", "demo", "member"), ("demo", "demo", "reader"), ("demo", "admin", "admin")]
        grants += [("cinder-internal", "cinder-internal", "member")]
        for project, user, role in grants:
            identity.assign_project_role_to_user(projects[project], users[user], roles[role])
        identity.create_region(id=REGION)
        for name, kind, path in CATALOGUE:
            service = identity.find_service(name) or identity.create_service(name=name, type=kind)
            for interface in ("public", "internal", "admin"):
                url = f"{site.url(name)}{path}"
                identity.create_endpoint(service_id=service.id, interface=interface, url=url, region_id=REGION)
        (site.root / "openrc").write_text(
            OPENRC.format(url=site.url("keystone"), region=REGION, password=PASSWORD, project="demo")
        )
        return projects["cinder-internal"].id, users["cinder-internal"].id
