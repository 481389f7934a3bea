# SPDX-License-Identifier: Apache-2.0
"""Everything that knows Lustre, usable alone: identities, mounts, changelogs, and a fake of all of it."""
