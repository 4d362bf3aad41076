# SPDX-License-Identifier: Apache-2.0
"""lingerd's stats page, read as another program would: from the file, by its documented layout."""
import struct

# magic, version, size, sequence, heartbeat, started, oldest, pid, record version, then counters.
_HEAD = struct.Struct("=QIIQQQQQQ")
_MAGIC = 0x53545253444E474C
COUNTERS = ("LingerQueue", "LingerQueuePeak", "LingerQueueLimit", "LingerOldestMillis",
            "LingerTotal", "LingerClosedByClient", "LingerClosedByReset", "LingerClosedIdle",
            "LingerClosedCap", "LingerEvicted", "LingerRejected", "LingerDrainedBytes",
            "LingerRescued", "LingerWorkerMillisFreed", "LingerUptimeSeconds", "LingerPeers",
            "LingerFallbacksReported", "LingerOffloads", "LingerOffloadBytes",
            "LingerOffloadPending", "LingerOffloadMemory", "LingerOffloadMemoryLimit",
            "LingerDelivered", "LingerDeliveryAborted", "LingerDeliveryTimedOut",
            "LingerOffloadsRefused", "LingerParked", "LingerParkedTotal", "LingerReturned",
            "LingerParkExpired", "LingerParkClosedByClient", "LingerReturnFailed",
            "LingerParkMillisFreed", "LingerOffers", "LingerOffersExpired", "LingerUnclosed",
            "LingerClosersStuck", "LingerPeersHeldBack", "LingerOverShare", "LingerGathering",
            "LingerGatherTotal", "LingerGathered", "LingerGatherEarly", "LingerGatherTimedOut",
            "LingerGatherClosedByClient", "LingerGatherReturnFailed", "LingerGatherMemory",
            "LingerGatherMemoryLimit", "LingerGatherMillisFreed")
ENDS = ("LingerClosedByClient", "LingerClosedByReset", "LingerClosedIdle", "LingerClosedCap",
        "LingerEvicted")
DELIVERY_ENDS = ("LingerDelivered", "LingerDeliveryAborted", "LingerDeliveryTimedOut")
# A reader works these out itself; the page has zero.
DERIVED = ("LingerOldestMillis", "LingerUptimeSeconds")


def read_page(path):
    """{name: value} of a whole page, or None while there is none."""
    for _ in range(1000):
        try:
            data = path.read_bytes()
            again = path.read_bytes()[:_HEAD.size]
        except FileNotFoundError:
            return None
        if len(data) < _HEAD.size + 8 * len(COUNTERS) or len(again) < _HEAD.size:
            return None
        head = _HEAD.unpack_from(data)
        if head[3] % 2 == 0 and head[3] == _HEAD.unpack(again)[3]:
            break
    else:
        raise AssertionError("the stats page was never at rest")
    if head[0] != _MAGIC:
        return None
    values = struct.unpack_from(f"={len(COUNTERS)}Q", data, _HEAD.size)
    page = dict(zip(COUNTERS, values))
    page.update(version=head[1], size=head[2], heartbeat_ns=head[4], started_ns=head[5],
                oldest_ns=head[6], pid=head[7])
    return page


def ends(counters):
    return sum(counters[name] for name in ENDS)


def deliveries_under_way(counters):
    return counters["LingerOffloads"] - sum(counters[name] for name in DELIVERY_ENDS)


def adds_up(counters):
    """With no delivery under way nothing is pending, and no memory is taken."""
    under_way = deliveries_under_way(counters)
    idle = counters["LingerOffloadPending"] == counters["LingerOffloadMemory"] == 0
    return (counters["LingerTotal"] == counters["LingerQueue"] + ends(counters)
            and 0 <= under_way <= counters["LingerQueue"] and (under_way > 0 or idle))
