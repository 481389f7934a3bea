# SPDX-License-Identifier: Apache-2.0
"""The command `lustack`: one module for each noun, loaded when its command runs."""
