# SPDX-License-Identifier: Apache-2.0
"""As much HTTP/2 as it takes to ask for a page and to see the GOAWAY: RFC 9113, and HPACK without
compression."""
import dataclasses
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1


@dataclasses.dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


def encode(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def opening():
    return PREFACE + encode(SETTINGS, 0, 0)


def acknowledge_settings():
    return encode(SETTINGS, _ACK, 0)


def get(path, stream=1, scheme="http"):
    """A GET: indexed :method and :scheme, literal :path and :authority."""
    block = bytes([0x82, 0x86 if scheme == "http" else 0x87])
    for index, value in ((0x04, path), (0x01, "localhost")):
        block += bytes([index, len(value)]) + value.encode()
    return encode(HEADERS, _END_STREAM | _END_HEADERS, stream, block)


def frames(stream_of_bytes):
    """All frames of what a server has sent; fails on a torn one."""
    found = []
    rest = stream_of_bytes
    while rest:
        assert len(rest) >= 9, f"torn frame: {rest!r}"
        length = int.from_bytes(rest[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", rest[3:9])
        assert len(rest) >= 9 + length, f"torn frame of type {kind}"
        found.append(Frame(kind, flags, stream, rest[9:9 + length]))
        rest = rest[9 + length:]
    return found


def body(found, stream=1):
    return b"".join(f.payload for f in found if f.kind == DATA and f.stream == stream)
