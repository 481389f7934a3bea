# SPDX-License-Identifier: Apache-2.0
"""Files, directories and attributes of any POSIX file system, opened so that nothing escapes.

Knows no OpenStack and no Lustre library: `kernel` holds the system calls that Python lacks, `tree` opens
below a root, `atomic` publishes whole files, `xattrs` stores blobs beside files.
"""
