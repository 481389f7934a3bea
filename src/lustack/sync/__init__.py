# SPDX-License-Identifier: Apache-2.0
"""The daemon that makes Swift's listings say what is in the file system.

`walk` and `observe` look at files, `plan` decides, a sink tells Swift, `reconcile` joins the two sides, `survey` knows
which containers there are, `service` runs all of it again and again.
"""
