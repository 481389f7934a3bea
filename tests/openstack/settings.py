# SPDX-License-Identifier: Apache-2.0
"""What the services read: for each a table of sections, written as an INI file.

What a site has to set for volumes on Lustre is in `nova` below and in tests/cinder/stand.py; the rest is what every
OpenStack needs, made small.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from tests.openstack import database

PASSWORD = "secret"
REGION = "RegionOne"
KEY = "0123456789abcdef" * 4

SERVICES = ("keystone", "glance", "placement", "cinder", "nova", "neutron")
DATABASES = ("keystone", "glance", "placement", "cinder", "nova_api", "nova_cell0", "nova_cell1")

# On a busy machine everybody waits a little longer, and nobody counts as gone.
PATIENCE = {"rpc_response_timeout": 600, "service_down_time": 1800}

Sections = dict[str, dict[str, object]]


@dataclass(frozen=True)
class Site:
    """Where everything is.

    Attributes:
        root: of the stand.
        ports: of the services' APIs, and of `mariadb`.
        transport: URL of the broker.
        hypervisor: URI of libvirt.
        accelerator: `kvm` or `qemu`.
    """

    root: Path
    ports: dict[str, int]
    transport: str
    hypervisor: str
    accelerator: str

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def database(self, name: str) -> str:
        return database.url(self.ports["mariadb"], name)

    def account(self, user: str) -> dict[str, object]:
        """How a service shows who it is."""
        return {
            "auth_type": "password",
            "auth_url": f"{self.url('keystone')}/v3",
            "username": user,
            "password": PASSWORD,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": REGION,
        }

    def tokens(self, user: str) -> dict[str, object]:
        """How a service knows who its callers are."""
        more = {
            "www_authenticate_uri": f"{self.url('keystone')}/v3",
            "service_token_roles": "service",
            "service_token_roles_required": "true",
        }
        return self.account(user) | more


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, default_section="<none>")
    parser.read(path)
    return parser


def write(path: Path, sections: Sections) -> None:
    """Write a file, or change what is in it."""
    parser = read(path)
    parser.read_dict(sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        parser.write(file)


def keystone(site: Site) -> Sections:
    return {
        "database": {"connection": site.database("keystone")},
        "token": {"provider": "fernet"},
        "fernet_tokens": {"key_repository": site.state / "keystone/fernet"},
        "credential": {"key_repository": site.state / "keystone/credential"},
        "identity": {"password_hash_rounds": 4},
        "cache": {"enabled": "true", "backend": "dogpile.cache.memory"},
    }


def glance(site: Site) -> Sections:
    def store(name: str) -> dict[str, object]:
        return {"filesystem_store_datadir": site.state / "glance" / name}

    return {
        "DEFAULT": {"enabled_backends": "files:file, volumes:cinder", "show_multiple_locations": "true"},
        "database": {"connection": site.database("glance")},
        "paste_deploy": {"flavor": "keystone", "config_file": site.etc / "glance/glance-api-paste.ini"},
        "glance_store": {"default_backend": "files"},
        "files": store("images"),
        # No type is named, which Glance would look up before there are any; Cinder's default is for raw volumes.
        "volumes": {
            "cinder_catalog_info": "block-storage::publicURL",
            "cinder_store_auth_address": f"{site.url('keystone')}/v3",
            "cinder_store_user_name": "glance",
            "cinder_store_password": PASSWORD,
            "cinder_store_project_name": "service",
            "cinder_do_extend_attached": "true",
        },
        "os_glance_staging_store": store("staging"),
        "os_glance_tasks_store": store("tasks"),
        "oslo_concurrency": {"lock_path": site.state / "glance/lock"},
        "keystone_authtoken": site.tokens("glance"),
    }


def glance_pipeline(site: Site, shipped: Path) -> Sections:
    """What Glance's pipeline has beside what it comes with: that it knows volumes on Lustre."""
    pipeline = read(shipped)["composite:api"]["keystone"]
    return {
        "filter:lustack": {
            "paste.filter_factory": "lustack.brick.glance:filter_factory",
            "lustre_mount_point_base": site.state / "glance" / "mnt",
        },
        "composite:api": {"keystone": f"lustack {pipeline}"},
    }


def placement(site: Site) -> Sections:
    return {
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": site.database("placement")},
        "keystone_authtoken": site.tokens("placement"),
    }


def cinder(site: Site) -> Sections:
    """What a Cinder with Keystone has other than that of tests/cinder."""
    return {
        "DEFAULT": {
            "auth_strategy": "keystone",
            "transport_url": site.transport,
            "glance_api_servers": site.url("glance"),
            **PATIENCE,
        },
        "database": {"connection": site.database("cinder")},
        "nova": {"interface": "public", **site.account("nova")},
        "service_user": {"send_service_user_token": "true", **site.account("cinder")},
        "keystone_authtoken": site.tokens("cinder"),
        "key_manager": {"fixed_key": KEY},
    }


def cinder_tenant(project_id: str, user_id: str) -> Sections:
    """Who owns what Cinder makes for itself."""
    return {
        "DEFAULT": {"cinder_internal_tenant_project_id": project_id, "cinder_internal_tenant_user_id": user_id},
    }


def nova(site: Site) -> Sections:
    """What Nova's services and the compute node read; what volumes on Lustre need is marked."""
    account = site.account("nova")
    return {
        "DEFAULT": {
            "compute_driver": "lustack_ext.LibvirtDriver",  # Lustre
            "host": "stand",
            "my_ip": "127.0.0.1",
            "state_path": site.state / "nova",
            "transport_url": site.transport,
            "heal_instance_info_cache_interval": -1,
            "block_device_allocate_retries_interval": 1,
            "update_resources_interval": 10,
            "allow_resize_to_same_host": "true",
            "report_interval": 5,
            "force_raw_images": "false",
            "reserved_host_memory_mb": 0,
            # Guests do little, and tempest has many at once.
            "initial_cpu_allocation_ratio": 32,
            "shutdown_timeout": 2,
            # Of a rebuild, while Cinder writes the image; Nova's own 20 s are for a machine that does nothing else.
            "reimage_timeout_per_gb": 600,
            "sync_power_state_interval": -1,
            # When it is stopped it has nothing to finish.
            "graceful_shutdown_timeout": 20,
            "manager_shutdown_timeout": 10,
            **PATIENCE,
        },
        "libvirt": {
            "lustre_mount_point_base": mounts(site),  # Lustre
            "lustre_mount_options": "flock",  # Lustre
            "connection_uri": site.hypervisor,
            "virt_type": site.accelerator,
            "cpu_mode": "none",
            "images_type": "flat",
            "sysinfo_serial": "none",
            "wait_soft_reboot_seconds": 2,
            "device_detach_timeout": 60,
        },
        "api": {"auth_strategy": "keystone"},
        "wsgi": {"api_paste_config": site.etc / "nova/api-paste.ini"},
        "api_database": {"connection": site.database("nova_api")},
        "database": {"connection": site.database("nova_cell1")},
        "oslo_concurrency": {"lock_path": site.state / "nova/lock"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 2},
        "filter_scheduler": {"enabled_filters": "ComputeFilter"},
        "vnc": {"enabled": "false"},
        "spice": {"enabled": "false"},
        "key_manager": {"backend": "nova.keymgr.conf_key_mgr.ConfKeyManager", "fixed_key": KEY},
        "keystone_authtoken": site.tokens("nova"),
        "service_user": {"send_service_user_token": "true", **account},
        **dict.fromkeys(("glance", "placement", "neutron"), account),
        "cinder": {"catalog_info": "block-storage::publicURL", **account},
    }


def mounts(site: Site) -> Path:
    """The directory below which Nova mounts shares."""
    return site.state / "nova" / "mnt"
