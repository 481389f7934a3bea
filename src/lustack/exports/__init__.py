# SPDX-License-Identifier: Apache-2.0
"""Exports: directories outside the device that are containers. What every part must do with them in the same way.

`lustack.mapping.exports` says what the table means; here it is read, changed, and its directories are opened.
"""
