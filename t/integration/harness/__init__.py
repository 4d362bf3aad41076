# SPDX-License-Identifier: Apache-2.0
"""A private httpd, a private lingerd and raw clients, for the tests in t/integration."""
