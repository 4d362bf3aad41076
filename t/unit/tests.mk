# SPDX-License-Identifier: Apache-2.0
# The real sources that each unit test links, beside itself and runner.cpp.

LINKS_record_test := lingerd/record
LINKS_counters_test :=
LINKS_stats_page_test := lingerd/stats_page
