# SPDX-License-Identifier: Apache-2.0
"""Shares as os-brick sees them: mounting them, and volumes in them as plain files."""
