# SPDX-License-Identifier: Apache-2.0
# The real sources that each unit test links, beside itself and runner.cpp.

LINKS_record_test := lingerd/record
LINKS_counters_test :=
LINKS_stats_page_test := lingerd/stats_page
LINKS_options_test := lingerd/options
LINKS_command_line_test := lingerd/command_line lingerd/options
LINKS_documents_test := lingerd/command_line lingerd/options
LINKS_report_test := lingerd/report_auto lingerd/report_chart lingerd/report_html lingerd/report_json \
                     lingerd/report_metrics lingerd/report_series lingerd/report_words
LINKS_lingerctl_test := lingerd/lingerctl_check lingerd/lingerctl_text lingerd/report_series \
                        lingerd/report_words
LINKS_stats_reader_test := lingerd/stats_reader lingerd/stats_page lingerd/report_words
LINKS_carry_test := lingerd/carry
LINKS_deadlines_test := lingerd/deadlines
LINKS_drain_test :=
LINKS_delivery_test := lingerd/delivery
LINKS_lingerer_test := lingerd/lingerer lingerd/deadlines lingerd/delivery
LINKS_obstacle_test :=
LINKS_lingerer_model_test := lingerd/carry lingerd/deadlines lingerd/delivery lingerd/lingerer
LINKS_parked_test := lingerd/carry lingerd/deadlines lingerd/parked
LINKS_parked_model_test := lingerd/carry lingerd/deadlines lingerd/parked
LINKS_lingerer_delivery_test := lingerd/deadlines lingerd/delivery lingerd/lingerer
LINKS_deliveries_model_test := lingerd/carry lingerd/deadlines lingerd/delivery lingerd/lingerer
