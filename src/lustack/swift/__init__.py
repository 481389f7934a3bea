# SPDX-License-Identifier: Apache-2.0
"""The Swift storage policy: every object is a plain file at a readable path."""
