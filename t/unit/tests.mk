# SPDX-License-Identifier: Apache-2.0
# The real sources that each unit test links, beside itself and runner.cpp.

LINKS_record_test := contract/record
LINKS_counters_test :=
LINKS_stats_page_test := contract/stats_page
LINKS_options_test := lingerd/core/settings lingerd/start/options
LINKS_command_line_test := lingerd/start/command_line base/flags lingerd/start/options
LINKS_documents_test := lingerd/start/command_line base/flags lingerd/start/options
LINKS_report_test := report/auto report/chart report/html report/json \
                     report/metrics report/series report/tables report/words base/numbers
LINKS_lingerctl_test := lingerctl/check lingerctl/text report/series \
                        report/words base/numbers
LINKS_stats_reader_test := contract/stats_reader contract/stats_page base/numbers
LINKS_carry_test := lingerd/core/carry
LINKS_parcel_test := lingerd/succession/parcel base/fd_passing
LINKS_deadlines_test := lingerd/core/deadlines
LINKS_shares_test := lingerd/core/shares
LINKS_errand_test := base/errand
LINKS_capacity_test := lingerd/core/capacity lingerd/core/shares
LINKS_drain_test :=
LINKS_request_head_test := contract/request_head
LINKS_chunks_test := contract/chunks
LINKS_awaited_test := lingerd/core/awaited contract/chunks contract/request_head
LINKS_missing_test := mod_linger/request/missing contract/chunks contract/request_head
LINKS_hope_test :=
LINKS_read_timeout_test := mod_linger/request/read_timeout
LINKS_delivery_test := lingerd/core/delivery
LINKS_lingerer_test := lingerd/core/capacity lingerd/core/deadlines lingerd/core/deliveries lingerd/core/delivery lingerd/core/lingerer lingerd/core/lingerer_carry lingerd/core/lingerer_limit lingerd/core/shares
LINKS_credentials_test :=
LINKS_goodbye_test :=
LINKS_obstacle_test := mod_linger/link/obstacle
LINKS_patience_test :=
LINKS_lingerer_model_test := lingerd/core/carry lingerd/core/capacity lingerd/core/deadlines lingerd/core/deliveries lingerd/core/delivery lingerd/core/lingerer lingerd/core/lingerer_carry lingerd/core/lingerer_limit lingerd/core/shares
LINKS_parked_test := lingerd/core/carry lingerd/core/capacity lingerd/core/deadlines lingerd/core/parked lingerd/core/parked_carry lingerd/core/parked_requests lingerd/core/awaited contract/chunks contract/request_head lingerd/core/return_lines lingerd/core/shares
LINKS_parked_model_test := lingerd/core/carry lingerd/core/capacity lingerd/core/deadlines lingerd/core/parked lingerd/core/parked_carry lingerd/core/parked_requests lingerd/core/awaited contract/chunks contract/request_head lingerd/core/return_lines lingerd/core/shares
LINKS_requests_model_test := lingerd/core/carry lingerd/core/capacity lingerd/core/deadlines lingerd/core/parked lingerd/core/parked_carry lingerd/core/parked_requests lingerd/core/awaited contract/chunks contract/request_head lingerd/core/return_lines lingerd/core/shares
LINKS_lingerer_delivery_test := lingerd/core/capacity lingerd/core/deadlines lingerd/core/deliveries lingerd/core/delivery lingerd/core/lingerer lingerd/core/lingerer_carry lingerd/core/lingerer_limit lingerd/core/shares
LINKS_deliveries_model_test := lingerd/core/carry lingerd/core/capacity lingerd/core/deadlines lingerd/core/deliveries lingerd/core/delivery lingerd/core/lingerer lingerd/core/lingerer_carry lingerd/core/lingerer_limit lingerd/core/shares
LINKS_own_listeners_test := mod_linger/stay/endpoint mod_linger/stay/own_listeners
LINKS_return_tag_test := mod_linger/stay/return_tag
# The one that needs APR: its SipHash.
LIBS_return_tag_test = $(shell apu-1-config --link-ld)
LINKS_return_listener_test := mod_linger/stay/listener_socket base/unix_socket
LINKS_content_test := contract/content
LINKS_sender_test := contract/content mod_linger/offload/rest_bytes mod_linger/offload/rest mod_linger/offload/sender
LINKS_file_systems_test := lingerd/io/file_systems

TLS_LAYER := $(addprefix mod_linger_tls/layer/,handshake_messages hkdf protection record_parser state suite)
TLS_INNER := $(TLS_LAYER) $(addprefix mod_linger_tls/inner/,bridge client_hello inner_client schedule server_session)
$(foreach each,hkdf protection record_parser state,$(eval LINKS_tls_$(each)_test := $(TLS_LAYER))\
    $(eval LIBS_tls_$(each)_test := -lcrypto))
$(foreach each,inner_client bridge bridge_end bridge_records,$(eval LINKS_tls_$(each)_test := $(TLS_INNER))\
    $(eval LIBS_tls_$(each)_test := -lssl -lcrypto))
LINKS_stay_table_test := mod_linger_tls/stay_table
LIBS_stay_table_test := -lcrypto
LINKS_tls_tap_test := mod_linger_tls/tap mod_linger_tls/last_record $(TLS_LAYER)
LIBS_tls_tap_test := -lcrypto
