// SPDX-License-Identifier: Apache-2.0
// The list of all counters, for counters.h: what each is called, and what it tells people.
#pragma once

// What lingerd counts, in the order of the stats page: append only, or raise kStatsVersion.
// X(name, key, label, type, unit, metric, help[, group])
#define LINGER_DAEMON_COUNTERS(X)                                                                  \
  X(kQueue, "LingerQueue", "Queue", kGauge, kCount, "lingerd_queue",                               \
    "Sockets that linger now, or take the rest of a response first.")                              \
  X(kQueuePeak, "LingerQueuePeak", "Queue peak", kGauge, kCount, "lingerd_queue_peak",             \
    "Most sockets that lingered at the same time since lingerd started.")                          \
  X(kQueueLimit, "LingerQueueLimit", "Queue limit", kGauge, kCount, "lingerd_queue_limit",         \
    "Most sockets that lingerd holds (--max-connections); at the limit the linger nearest its "    \
    "deadline is ended early.")                                                                    \
  X(kOldestMillis, "LingerOldestMillis", "Oldest linger", kGauge, kMillis,                         \
    "lingerd_oldest_seconds",                                                                      \
    "Age of the oldest lingering socket; never far above LingerTime. Deliveries don't count.")     \
  X(kTotal, "LingerTotal", "Taken over", kCounter, kCount, "lingerd_sockets",                      \
    "Sockets taken over from httpd: those in the queue and every way that a linger has ended.")    \
  X(kClosedByClient, "LingerClosedByClient", "Closed by the client", kCounter, kCount,             \
    "lingerd_closed_by_client", "Lingers that ended well: the client closed.",                     \
    CounterGroup::kLingerEnds)                                                                     \
  X(kClosedByReset, "LingerClosedByReset", "Reset by the client", kCounter, kCount,                \
    "lingerd_closed_by_reset", "Lingers that ended by the client's RST or a network error.",       \
    CounterGroup::kLingerEnds)                                                                     \
  X(kClosedIdle, "LingerClosedIdle", "Silent for LingerTimeout", kCounter, kCount,                 \
    "lingerd_closed_idle",                                                                         \
    "Lingers ended after LingerTimeout without a byte from the client or any of the response "     \
    "being taken by it.",                                                                          \
    CounterGroup::kLingerEnds)                                                                     \
  X(kClosedCap, "LingerClosedCap", "Over LingerTime", kCounter, kCount, "lingerd_closed_cap",      \
    "Lingers ended at LingerTime, or at lingerd's own --max-time, with the client still there.",   \
    CounterGroup::kLingerEnds)                                                                     \
  X(kEvicted, "LingerEvicted", "Evicted", kCounter, kCount, "lingerd_evicted",                     \
    "Lingers ended early to make room at the queue limit (a delivery counts twice there). If it "  \
    "rises, raise --max-connections "                                                              \
    "and LimitNOFILE, or shorten LingerTimeout.",                                                  \
    CounterGroup::kLingerEnds)                                                                     \
  X(kRejected, "LingerRejected", "Rejected", kCounter, kCount, "lingerd_rejected",                 \
    "Messages and descriptors that lingerd refused: no valid record, no connected TCP socket, or " \
    "a peer that is not allowed. Should be zero; lingerd's log says what came.")                   \
  X(kDrainedBytes, "LingerDrainedBytes", "Drained", kCounter, kBytes, "lingerd_drained_bytes",     \
    "Bytes that clients sent after the response and that lingerd discarded.")                      \
  X(kRescued, "LingerRescued", "Rescued responses", kCounter, kCount, "lingerd_rescued",           \
    "Sockets on which bytes came after our FIN: a plain close would have reset that client and "   \
    "might have destroyed its response.")                                                          \
  X(kWorkerMillisFreed, "LingerWorkerMillisFreed", "Worker time freed", kCounter, kMillis,         \
    "lingerd_worker_freed_seconds",                                                                \
    "Time that ended lingers, deliveries before them, parked connections and requests that were "  \
    "still coming spent in lingerd: "                                                              \
    "what httpd's workers would have waited.")                                                     \
  X(kUptimeSeconds, "LingerUptimeSeconds", "Uptime", kGauge, kSeconds, "lingerd_uptime_seconds",   \
    "Seconds since lingerd and its counters began; a restart that carries them over doesn't "      \
    "reset it.")                                                                                   \
  X(kPeers, "LingerPeers", "Processes of httpd", kGauge, kCount, "lingerd_peers",                  \
    "Connections from httpd, one for each of its processes. If it is zero while httpd serves, "    \
    "httpd can't reach lingerd, and its error log says why.")                                      \
  X(kFallbacksReported, "LingerFallbacksReported", "Fallbacks reported", kCounter, kCount,         \
    "lingerd_fallbacks_reported",                                                                  \
    "Fallbacks that httpd has told lingerd of, each with the next hand-off after it. While "       \
    "nothing can be handed off they are in LingerFallbacks only, on httpd's own pages.")           \
  X(kOffloads, "LingerOffloads", "Responses offloaded", kCounter, kCount, "lingerd_offloads",      \
    "Sockets that came with the rest of a response to deliver (LingerOffload).")                   \
  X(kOffloadBytes, "LingerOffloadBytes", "Offloaded", kCounter, kBytes, "lingerd_offload_bytes",   \
    "Bytes of responses that lingerd was given to deliver.")                                       \
  X(kOffloadPending, "LingerOffloadPending", "Still to deliver", kGauge, kBytes,                   \
    "lingerd_offload_pending_bytes", "Bytes that lingerd has still to deliver.")                   \
  X(kOffloadMemory, "LingerOffloadMemory", "Held in memory", kGauge, kBytes,                       \
    "lingerd_offload_memory_bytes",                                                                \
    "Memory that responses to deliver take; files that are sent as they are take none.")           \
  X(kOffloadMemoryLimit, "LingerOffloadMemoryLimit", "Memory limit", kGauge, kBytes,               \
    "lingerd_offload_memory_limit_bytes",                                                          \
    "Most memory for that (--offload-memory); at the limit workers deliver themselves.")           \
  X(kDelivered, "LingerDelivered", "Delivered", kCounter, kCount, "lingerd_delivered",             \
    "Offloaded responses that the kernel has taken to the last byte.",                             \
    CounterGroup::kDeliveryEnds)                                                                   \
  X(kDeliveryAborted, "LingerDeliveryAborted", "Delivery aborted", kCounter, kCount,               \
    "lingerd_delivery_aborted",                                                                    \
    "Offloaded responses that broke off: the client reset, a file became shorter, lingerd had to " \
    "make room, or a stop had lasted --max-time.",                                                 \
    CounterGroup::kDeliveryEnds)                                                                   \
  X(kDeliveryTimedOut, "LingerDeliveryTimedOut", "Delivery timed out", kCounter, kCount,           \
    "lingerd_delivery_timed_out",                                                                  \
    "Offloaded responses given up: no progress for LingerOffloadTimeout, or slower than "          \
    "--min-rate.",                                                                                 \
    CounterGroup::kDeliveryEnds)                                                                   \
  X(kOffloadsRefused, "LingerOffloadsRefused", "Offloads refused", kCounter, kCount,               \
    "lingerd_offloads_refused",                                                                    \
    "Responses that lingerd had no room for, so that a worker delivered them. If it rises, raise " \
    "--offload-memory or --max-connections.")                                                      \
  X(kParked, "LingerParked", "Idle connections", kGauge, kCount, "lingerd_parked",                 \
    "Keep-alive connections that wait in lingerd for their next request (LingerKeepAlive).")       \
  X(kParkedTotal, "LingerParkedTotal", "Parked", kCounter, kCount, "lingerd_parks",                \
    "Times that an idle connection was parked: those that wait now, those that returned and "      \
    "every way that waiting has ended.")                                                           \
  X(kReturned, "LingerReturned", "Returned", kCounter, kCount, "lingerd_returned",                 \
    "Parked connections that went back to httpd with their next request.",                         \
    CounterGroup::kStayEnds)                                                                       \
  X(kParkExpired, "LingerParkExpired", "Parked for KeepAliveTimeout", kCounter, kCount,            \
    "lingerd_park_expired",                                                                        \
    "Parked connections that lingerd closed, as httpd would: after KeepAliveTimeout, or earlier "  \
    "to make room at the queue limit or because lingerd was stopped.",                             \
    CounterGroup::kStayEnds)                                                                       \
  X(kParkClosedByClient, "LingerParkClosedByClient", "Closed while parked", kCounter, kCount,      \
    "lingerd_park_closed_by_client", "Parked connections that their clients closed.",              \
    CounterGroup::kStayEnds)                                                                       \
  X(kReturnFailed, "LingerReturnFailed", "Return failed", kCounter, kCount,                        \
    "lingerd_return_failed",                                                                       \
    "Parked connections closed because there was no way back: httpd had stopped, or had taken "    \
    "none for 10 seconds. Should stand still; if it rises while httpd runs, all its workers are "  \
    "busy.",                                                                                       \
    CounterGroup::kStayEnds)                                                                       \
  X(kParkMillisFreed, "LingerParkMillisFreed", "of it while parked", kCounter, kMillis,            \
    "lingerd_park_freed_seconds",                                                                  \
    "The part of the worker time freed that idle connections have spent in lingerd.")              \
  X(kOffers, "LingerOffers", "Offers", kGauge, kCount, "lingerd_offers",                           \
    "Responses that a worker has offered and not begun to hand off; each lasts a moment.")         \
  X(kOffersExpired, "LingerOffersExpired", "Offers expired", kCounter, kCount,                     \
    "lingerd_offers_expired",                                                                      \
    "Offers that lingerd let go of because nothing had come of them for 2 seconds. Should be "     \
    "zero, but for processes of httpd that were stopped just then.")                               \
  X(kUnclosed, "LingerUnclosed", "Waiting to be closed", kGauge, kCount, "lingerd_unclosed",       \
    "Descriptors that lingerd has done with and that are still to be closed, by a process of its " \
    "own because that may take long.")                                                             \
  X(kClosersStuck, "LingerClosersStuck", "Stuck closes", kGauge, kCount, "lingerd_closers_stuck",  \
    "Processes of lingerd's that hang in the close of something that was sent to it, such as a "   \
    "file of a file server that is away. Should be zero; LingerRejected and the log say which "    \
    "process sends such things.")                                                                  \
  X(kPeersHeldBack, "LingerPeersHeldBack", "Processes held back", kCounter, kCount,                \
    "lingerd_peers_held_back",                                                                     \
    "Times that lingerd read no more from a process for a while, because closing what its user "   \
    "had sent took too long. Should be zero.")                                                     \
  X(kOverShare, "LingerOverShare", "Over a share", kCounter, kCount, "lingerd_over_share",         \
    "Lingers, parked connections and ways back that lingerd ended at a limit because their user "  \
    "held more than its share of it while other users had some. lingerd's log names the user; if " \
    "it is an honest one, raise --max-connections and LimitNOFILE.")                               \
  X(kGathering, "LingerGathering", "Requests still coming", kGauge, kCount, "lingerd_gathering",   \
    "Connections that wait in lingerd for the rest of a request (LingerRequest).")                 \
  X(kGatherTotal, "LingerGatherTotal", "Taken while coming", kCounter, kCount, "lingerd_gathers",  \
    "Times that a connection came here because its request was still coming: those that wait "     \
    "now, those that went back and every way that waiting has ended. A head and a body that are "  \
    "both slow count twice.")                                                                      \
  X(kGathered, "LingerGathered", "Gathered", kCounter, kCount, "lingerd_gathered",                 \
    "Heads and bodies of requests that went back to httpd complete.", CounterGroup::kGatherEnds)   \
  X(kGatherEarly, "LingerGatherEarly", "Went back before", kCounter, kCount,                       \
    "lingerd_gather_early",                                                                        \
    "Requests that went back incomplete, for a worker to read the rest: they were larger than "    \
    "LingerRequestBody or than the kernel holds (net.ipv4.tcp_rmem), the client had sent its FIN " \
    "or urgent data, lingerd was stopped, or --request-memory was used up.",                       \
    CounterGroup::kGatherEnds)                                                                     \
  X(kGatherTimedOut, "LingerGatherTimedOut", "Timed out while coming", kCounter, kCount,           \
    "lingerd_gather_timed_out",                                                                    \
    "Requests that were not there after LingerRequestTimeout, or came slower than "                \
    "LingerRequestMinRate: they went back to be answered with 408.",                               \
    CounterGroup::kGatherEnds)                                                                     \
  X(kGatherClosedByClient, "LingerGatherClosedByClient", "Closed while coming", kCounter, kCount,  \
    "lingerd_gather_closed_by_client",                                                             \
    "Connections whose clients closed or reset them before the request was there.",                \
    CounterGroup::kGatherEnds)                                                                     \
  X(kGatherReturnFailed, "LingerGatherReturnFailed", "Return of a request failed", kCounter,       \
    kCount, "lingerd_gather_return_failed",                                                        \
    "Connections closed with their request because there was no way back: httpd had stopped, or "  \
    "had taken none for 10 seconds. Should stand still.",                                          \
    CounterGroup::kGatherEnds)                                                                     \
  X(kGatherMemory, "LingerGatherMemory", "Bodies in the kernel", kGauge, kBytes,                   \
    "lingerd_gather_memory_bytes",                                                                 \
    "Bytes of request bodies that wait in their sockets' receive buffers, as of a second ago.")    \
  X(kGatherMemoryLimit, "LingerGatherMemoryLimit", "Limit of that", kGauge, kBytes,                \
    "lingerd_gather_memory_limit_bytes",                                                           \
    "Most that may wait there (--request-memory); at the limit workers read bodies themselves.")   \
  X(kGatherMillisFreed, "LingerGatherMillisFreed", "of it while requests came", kCounter, kMillis, \
    "lingerd_gather_freed_seconds",                                                                \
    "The part of the worker time freed that requests have spent in lingerd.")

// What only the module sees; in httpd's shared memory, survives graceful restarts.
#define LINGER_MODULE_COUNTERS(X)                                                                  \
  X(kHandoffs, "LingerHandoffs", "Handed off", kCounter, kCount, "mod_linger_handoffs",            \
    "Connections whose socket went to lingerd.")                                                   \
  X(kAlreadyClosed, "LingerAlreadyClosed", "Already closed", kCounter, kCount,                     \
    "mod_linger_already_closed",                                                                   \
    "Connections that the client had closed before Apache did: nothing to hand off. The usual "    \
    "case on a LAN.")                                                                              \
  X(kFallbacks, "LingerFallbacks", "Fallbacks", kCounter, kCount, "mod_linger_fallbacks",          \
    "Connections that lingerd couldn't take, for any of the reasons below: Apache lingered "       \
    "itself, or closed at once with LingerFallback close. Should stand still.")                    \
  X(kFallbacksDown, "LingerFallbacksDown", "lingerd down", kCounter, kCount,                       \
    "mod_linger_fallbacks_down",                                                                   \
    "Fallbacks because nothing listens at LingerSocket, or a lingerd of another version does. "    \
    "Start or upgrade lingerd.")                                                                   \
  X(kFallbacksBusy, "LingerFallbacksBusy", "lingerd busy", kCounter, kCount,                       \
    "mod_linger_fallbacks_busy",                                                                   \
    "Fallbacks because lingerd didn't keep up: its queue was full, or too many descriptors were "  \
    "in flight (RLIMIT_NOFILE of httpd's user).")                                                  \
  X(kFallbacksDenied, "LingerFallbacksDenied", "Access denied", kCounter, kCount,                  \
    "mod_linger_fallbacks_denied",                                                                 \
    "Fallbacks because httpd's user may not use LingerSocket: see --socket-mode, --socket-group, " \
    "--allow-user, SELinux.")                                                                      \
  X(kHandoffMicros, "LingerHandoffMicros", "Time spent handing off", kCounter, kMicros,            \
    "mod_linger_handoff_seconds", "Time that httpd's workers spent from FIN to hand-off.")         \
  X(kAborted, "LingerAborted", "Broken connections", kCounter, kCount, "mod_linger_aborted",       \
    "Connections that were reset or timed out before Apache had said its last byte: no "           \
    "client was left to linger for.")                                                              \
  X(kLeftOff, "LingerLeftOff", "Linger Off", kCounter, kCount, "mod_linger_left_off",              \
    "Connections left to Apache because their server has Linger Off.")                             \
  X(kReturnsRefused, "LingerReturnsRefused", "Returns refused", kCounter, kCount,                  \
    "mod_linger_returns_refused",                                                                  \
    "Connections to the module's private listener that came from another program than lingerd, "   \
    "or "                                                                                          \
    "brought no client that this httpd had parked. Should be zero, unless a restart has removed "  \
    "a "                                                                                           \
    "listener; the error log says which process came.")                                            \
  X(kParkedTls, "LingerParkedTls", "TLS states kept", kGauge, kCount, "mod_linger_parked_tls",     \
    "Sealed states of parked TLS connections in httpd's shared memory (LingerKeepAliveTLS). One "  \
    "whose client left while it was parked is kept until KeepAliveTimeout is over.")               \
  X(kParkedTlsTotal, "LingerParkedTlsTotal", "Parked over TLS", kCounter, kCount,                  \
    "mod_linger_parks_tls",                                                                        \
    "Times that a TLS connection was parked; they are in LingerParkedTotal "                       \
    "too.")                                                                                        \
  X(kTlsResumed, "LingerTlsResumed", "TLS resumed", kCounter, kCount, "mod_linger_tls_resumed",    \
    "Parked TLS connections with which a process went on.")                                        \
  X(kTlsRefused, "LingerTlsRefused", "TLS refused", kCounter, kCount, "mod_linger_tls_refused",    \
    "Parked TLS connections that came back a second time, or whose sealed state didn't fit them; " \
    "they are closed without a byte. Should stand still; the error log says more.")                \
  X(kTlsResumeMicros, "LingerTlsResumeMicros", "Time spent resuming TLS", kCounter, kMicros,       \
    "mod_linger_tls_resume_seconds",                                                               \
    "Time that httpd's workers spent on parked TLS connections from their arrival until mod_ssl "  \
    "could read.")
