# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from oslo_config import cfg

from lustack.nova import opts


def test_the_options_stand_in_the_section_of_libvirt_and_can_be_registered_twice():
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt("state_path", default="/var/lib/nova"))
    opts.register(conf)
    opts.register(conf)
    conf([], default_config_files=[])
    assert conf.libvirt.lustre_mount_point_base == "/var/lib/nova/mnt"
    assert conf.libvirt.lustre_mount_options == "flock"


def test_every_option_has_its_help():
    ((group, options),) = opts.list_opts()
    assert group == "libvirt"
    assert all(option.help for option in options)
