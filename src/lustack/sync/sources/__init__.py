# SPDX-License-Identifier: Apache-2.0
"""Where the news about changed files comes from."""
