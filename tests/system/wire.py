"""Protocol buffers by hand, for messages that no library would write."""

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def field(number, value):
    """An integer as a varint, bytes or text with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    """{number: [values]}; integers are signed 64-bit."""
    data = bytes(data)
    out, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
            value -= 1 << 64 if value >> 63 else 0
        else:
            assert tag & 7 == 2, tag
            n, at = read_varint(data, at)
            value, at = data[at:at + n], at + n
            assert len(value) == n
        out.setdefault(tag >> 3, []).append(value)
    return out


def messages(data):
    """The gRPC messages of a stream's data; a cut one at the end is left out."""
    out, at = [], 0
    while len(data) - at >= 5 and len(data) - at - 5 >= int.from_bytes(data[at + 1:at + 5], "big"):
        n = int.from_bytes(data[at + 1:at + 5], "big")
        out.append(bytes(data[at + 5:at + 5 + n]))
        at += 5 + n
    return out
