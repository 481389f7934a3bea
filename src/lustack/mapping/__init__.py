# SPDX-License-Identifier: Apache-2.0
"""What Swift and the file system must agree on: names, metadata, and where lustack keeps its own files."""
