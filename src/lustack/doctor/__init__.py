# SPDX-License-Identifier: Apache-2.0
"""Tells whether a host is ready for volumes on Lustre, and how to mend what is not."""
