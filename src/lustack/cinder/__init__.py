# SPDX-License-Identifier: Apache-2.0
"""Volumes of Cinder as files on Lustre: the driver, its backups, and what they are made of."""
