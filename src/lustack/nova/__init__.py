# SPDX-License-Identifier: Apache-2.0
"""Volumes on Lustre for nova-compute: what libvirt is told, and who mounts the share."""
