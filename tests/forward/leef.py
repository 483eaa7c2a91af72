"""Reads LEEF 2.0, strictly: written from the published description of the format, apart from what writes it. A line on standard input
becomes a line of JSON; a line that is not LEEF ends it with an error."""
import ipaddress
import json
import re
import sys

# LEEF:Version|Vendor|Product|Version|EventID|DelimiterCharacter|Attributes; no part of the header holds a pipe
HEADER = re.compile(r"LEEF:2\.0\|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|([^|]*)\|(.*)", re.DOTALL)
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def number(least, most):
    def check(text):
        if not re.fullmatch(r"0|[1-9][0-9]*", text) or not least <= int(text) <= most:
            raise ValueError("expected a number from %d to %d, found %r" % (least, most, text))
    return check


def milliseconds(text):
    # without devTimeFormat: milliseconds since 1970, 13 digits in our time
    if not re.fullmatch(r"[0-9]{13}", text):
        raise ValueError("expected milliseconds, found %r" % text)


# predefined attributes that have a type
TYPES = {
    "sev": number(1, 10), "src": ipaddress.ip_address, "dst": ipaddress.ip_address, "srcPort": number(0, 65535),
    "dstPort": number(0, 65535), "srcBytes": number(0, 2 ** 64), "dstBytes": number(0, 2 ** 64),
    "srcPackets": number(0, 2 ** 64), "dstPackets": number(0, 2 ** 64), "devTime": milliseconds,
}


def delimiter(text):
    """One character, or its number in hexadecimal; a tab without one."""
    if not text:
        return "\t"
    if re.fullmatch(r"0?x[0-9A-Fa-f]{2,4}", text):
        return chr(int(text.split("x")[1], 16))
    if len(text) != 1:
        raise ValueError("no delimiter: %r" % text)
    return text


def read(line):
    header = HEADER.fullmatch(line)
    if not header:
        raise ValueError("no header: %r" % line)
    vendor, product, version, event, between, rest = header.groups()
    between = delimiter(between)
    found = {"vendor": vendor, "product": product, "version": version, "event": event}
    for pair in rest.split(between):
        key, equals, value = pair.partition("=")
        if not equals or not KEY.fullmatch(key) or not value or key in found:
            raise ValueError("no attribute, or one that is there twice: %r" % pair)
        if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in value):
            raise ValueError("a control character: %r" % value)
        TYPES.get(key, str)(value)
        found[key] = value
    return found


for raw in sys.stdin.buffer:
    print(json.dumps(read(raw.decode("utf-8").rstrip("\n"))))
