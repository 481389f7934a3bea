# SPDX-License-Identifier: Apache-2.0
"""Where the listings are."""
