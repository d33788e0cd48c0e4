"""The configuration file: its settings, and the errors in a file that can't be used."""

import enum
import os
import re
import socket
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ackd.config import (
    BadValueError,
    Config,
    ConfigError,
    ConfigFile,
    Durability,
    EmptyLines,
    Recording,
    check,
    load,
    parse,
)
from ackd.yaml_nodes import long_document
from tests.support.project import PROJECT

SHIPPED = PROJECT / "etc" / "ackd.yaml"
KEYS = [key for key in Config._fields if key != "places"]


def errors(text: str | bytes) -> list[str]:
    """Return the errors in a file, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), "f")
    lines = str(caught.value).split("\n")
    assert lines == [str(problem) for problem in caught.value.problems]
    assert all(line.startswith("f:") for line in lines)
    return [line.removeprefix("f:") for line in lines]


GOOD = {
    "bind: 192.168.150.1": ("bind", ("192.168.150.1",)),
    "bind: ::1": ("bind", ("::1",)),
    "bind: '::'": ("bind", ("::",)),
    "bind: [0.0.0.0, '::']": ("bind", ("0.0.0.0", "::")),
    "bind:\n- 127.0.0.1\n- ::1\n": ("bind", ("127.0.0.1", "::1")),
    "bind: '2001:DB8:0::1'": ("bind", ("2001:db8::1",)),
    "bind: 'fe80::1%eth0'": ("bind", ("fe80::1%eth0",)),
    "port: 0": ("port", 0),
    "port: 65535": ("port", 65535),
    "'port': 1": ("port", 1),
    "allow: []": ("allow", ()),
    "allow: 192.0.2.7": ("allow", (IPv4Network("192.0.2.7/32"),)),
    "allow: 192.0.2.0/24": ("allow", (IPv4Network("192.0.2.0/24"),)),
    "allow: 10.0.0.0/255.0.0.0": ("allow", (IPv4Network("10.0.0.0/8"),)),
    "allow: 0.0.0.0/0": ("allow", (IPv4Network("0.0.0.0/0"),)),
    "allow: ::/0": ("allow", (IPv6Network("::/0"),)),
    "allow: [192.0.2.7, 'FE80::/64']": (
        "allow",
        (IPv4Network("192.0.2.7/32"), IPv6Network("fe80::/64")),
    ),
    "proxy_from: 192.0.2.9": ("proxy_from", (IPv4Network("192.0.2.9/32"),)),
    "proxy_from: [192.0.2.9, '2001:db8::/64']": (
        "proxy_from",
        (IPv4Network("192.0.2.9/32"), IPv6Network("2001:db8::/64")),
    ),
    "greeting: hello there": ("greeting", "hello there"),
    "greeting: ''": ("greeting", ""),
    "greeting: 'yes'": ("greeting", "yes"),
    "greeting: Grüß Gott": ("greeting", "Grüß Gott"),
    f"greeting: {'x' * 4096}": ("greeting", "x" * 4096),
    'greeting: "\u201cWelcome\u201d"': ("greeting", "\u201cWelcome\u201d"),
    "greeting: \u00ab\u00a0Bonjour\u00a0\u00bb": ("greeting", "\u00ab\u00a0Bonjour\u00a0\u00bb"),
    "greeting: not connect, we are closed": ("greeting", "not connect, we are closed"),
    "ack: ok": ("ack", "ok"),
    "ack: ''": ("ack", ""),
    "ack: '2008-01-01'": ("ack", "2008-01-01"),
    "record: each": ("record", Recording.EACH),
    "record: batch": ("record", Recording.BATCH),
    "record: none": ("record", Recording.NONE),
    "durability: journal": ("durability", Durability.JOURNAL),
    "durability: disk": ("durability", Durability.DISK),
    "wal_size: 16777216": ("wal_size", 1 << 24),
    "wal_size: 1_099_511_627_776": ("wal_size", 1 << 40),
    "wal_directory: /srv/ackd": ("wal_directory", "/srv/ackd"),
    "wal_directory: '/srv/the log'": ("wal_directory", "/srv/the log"),
    "wal_directory: null": ("wal_directory", None),
    "empty_lines: record": ("empty_lines", EmptyLines.RECORD),
    "empty_lines: ignore": ("empty_lines", EmptyLines.IGNORE),
    "max_payload: 1": ("max_payload", 1),
    "max_payload: 131072": ("max_payload", 131072),
    "max_payload: 1_000": ("max_payload", 1000),
    "max_connections: 1": ("max_connections", 1),
    "max_connections: 1000000": ("max_connections", 1_000_000),
    "max_connections_per_client: 1": ("max_connections_per_client", 1),
    "max_connections_per_client: null": ("max_connections_per_client", None),
    "max_connections_per_client:": ("max_connections_per_client", None),
    "idle_timeout: 0": ("idle_timeout", 0),
    "idle_timeout: 0.5": ("idle_timeout", 0.5),
    "idle_timeout: .5": ("idle_timeout", 0.5),
    "idle_timeout: 1.5e+3": ("idle_timeout", 1500.0),
    "idle_timeout: 1000000": ("idle_timeout", 1_000_000),
    "journal_wait: 0": ("journal_wait", 0),
    "journal_wait: 2.5": ("journal_wait", 2.5),
    "tls_allow: []": ("tls_allow", ()),
    "handshake_timeout: 1": ("handshake_timeout", 1),
    "handshake_timeout: 2.5": ("handshake_timeout", 2.5),
    "handshake_timeout: 3600": ("handshake_timeout", 3600),
    "tls_certificate: null": ("tls_certificate", None),
    "tls_key: null": ("tls_key", None),
    "tls_client_ca: null": ("tls_client_ca", None),
    "debug: true": ("debug", True),
    "debug: no": ("debug", False),
}


@pytest.mark.parametrize(("text", "setting"), GOOD.items(), ids=[text[:40] for text in GOOD])
def test_a_setting_changes_only_its_own_value(text: str, setting: tuple[str, Any]) -> None:
    key, value = setting
    assert parse(text.encode(), "f") == Config(**{key: value})


def test_every_key_is_tested_here() -> None:
    assert {key for key, _ in GOOD.values()} == set(KEYS)
    assert {text.partition(":")[0] for text in BAD} == set(KEYS)


WITHOUT_SETTINGS = {
    "an empty file": b"",
    "empty lines": b"\n\n",
    "comments": b"# port: 1\n",
    "an empty document": b"---\n",
    "null": b"~\n",
    "no settings": b"{}",
    "a byte order mark": b"\xef\xbb\xbf",
}


@pytest.mark.parametrize("text", WITHOUT_SETTINGS.values(), ids=WITHOUT_SETTINGS.keys())
def test_a_file_without_settings_gives_the_defaults(text: bytes) -> None:
    assert parse(text, "f") == Config()


def test_several_settings_can_be_combined() -> None:
    text = b"""\
bind: [192.168.150.1, "::1"]
port: 7
ack: ok   # short
idle_timeout: 1.5
"""
    assert parse(text, "f") == Config(
        bind=("192.168.150.1", "::1"), port=7, ack="ok", idle_timeout=1.5
    )


NO_ADDRESS = "is not an IPv4 or IPv6 address, such as 192.168.150.1 or ::1"
MANY_HOSTS = "stands for many hosts: TCP has no such connections"
NO_NODE = "while parsing a flow node, expected the node content, but found ':'"
CLIENTS_LIMIT = "is not between 1 and 1000000"
NO_NETWORK = "is not a network or an address, such as 192.168.150.0/24 or ::1"
TIME_LIMIT = "is not between 0 and 1000000"
NO_FILE = "is neither an absolute path nor the name of a credential, such as tls-key"
NO_PATTERN = "has a * that stands for nothing; a pattern is like *.example.org"
BAD = {
    "bind: localhost": f"1:7: bind: 'localhost' {NO_ADDRESS}",
    "bind: 127.1": f"1:7: bind: 127.1 {NO_ADDRESS}",
    "bind: 0": f"1:7: bind: 0 {NO_ADDRESS}",
    "bind: 2130706433": f"1:7: bind: 2130706433 {NO_ADDRESS}",
    "bind: 1:30": f"1:7: bind: 90 {NO_ADDRESS}",
    "bind:": f"1:6: bind: None {NO_ADDRESS}",
    "bind: ''": f"1:7: bind: '' {NO_ADDRESS}",
    "bind: 127.0.0.1:10008": f"1:7: bind: '127.0.0.1:10008' {NO_ADDRESS}",
    "bind: {a: b}": f"1:7: bind: {{'a': 'b'}} {NO_ADDRESS}",
    "bind: []": "1:7: bind: needs one address at least",
    "bind: ['::1', 0.0.0.0, '::1']": "1:24: bind: ::1 is there twice",
    "bind: ['::1', '0::1']": "1:15: bind: ::1 is there twice",
    "bind: [127.0.0.1, x]": f"1:19: bind: 'x' {NO_ADDRESS}",
    "bind: [[127.0.0.1]]": f"1:8: bind: ['127.0.0.1'] {NO_ADDRESS}",
    "bind:\n- ::1\n- x": f"3:3: bind: 'x' {NO_ADDRESS}",
    "bind: [::1]": f'1:8: {NO_NODE}; put the IPv6 address in quotes: "::1"',
    "bind: [127.0.0.1, ::]": f'1:19: {NO_NODE}; put the IPv6 address in quotes: "::"',
    "bind: ::ffff:127.0.0.1": "1:7: bind: ::ffff:127.0.0.1 stands for IPv4: write 127.0.0.1",
    "bind: fe80::1": (
        "1:7: bind: fe80::1 needs its interface: write fe80::1%eth0, with the name of the interface"
    ),
    "bind: 224.0.0.1": f"1:7: bind: 224.0.0.1 {MANY_HOSTS}",
    "bind: ff02::1%eth0": f"1:7: bind: ff02::1%eth0 {MANY_HOSTS}",
    "bind: 255.255.255.255": f"1:7: bind: 255.255.255.255 {MANY_HOSTS}",
    "port: 70000": "1:7: port: 70000 is not between 0 and 65535",
    "port: -1": "1:7: port: -1 is not between 0 and 65535",
    "port: 10008.0": "1:7: port: 10008.0 is not a whole number",
    "port: '10008'": "1:7: port: '10008' is not a whole number",
    "port: yes": "1:7: port: True is not a whole number",
    "port: 1e3": "1:7: port: '1e3' is not a whole number",
    "port: [1]": "1:7: port: [1] is not a whole number",
    "port:": "1:6: port: None is not a whole number",
    "port: 022": "1:7: port: 022 stands for 18; write it as a decimal number",
    "port: 0x16": "1:7: port: 0x16 stands for 22; write it as a decimal number",
    "port: 0b11": "1:7: port: 0b11 stands for 3; write it as a decimal number",
    "port: 1:30": "1:7: port: 1:30 stands for 90; write it as a decimal number",
    "port: 010008": "1:7: port: '010008' is not a whole number",
    "proxy_from: haproxy": f"1:13: proxy_from: 'haproxy' {NO_NETWORK}",
    "allow: example.com": f"1:8: allow: 'example.com' {NO_NETWORK}",
    "allow: 0.0.0.0": "1:8: allow: 0.0.0.0 is no client's address: write 0.0.0.0/0 for all",
    "allow: '::/128'": "1:8: allow: ::/128 is no client's address: write ::/0 for all",
    "allow: 10": f"1:8: allow: 10 {NO_NETWORK}",
    "allow: 10.0": f"1:8: allow: 10.0 {NO_NETWORK}",
    "allow: 192.0.2.0/33": f"1:8: allow: '192.0.2.0/33' {NO_NETWORK}",
    "allow: 192.0.2.": f"1:8: allow: '192.0.2.' {NO_NETWORK}",
    "allow: ''": f"1:8: allow: '' {NO_NETWORK}",
    "allow:": f"1:7: allow: None {NO_NETWORK}",
    "allow: {a: b}": f"1:8: allow: {{'a': 'b'}} {NO_NETWORK}",
    "allow: [[192.0.2.7]]": f"1:9: allow: ['192.0.2.7'] {NO_NETWORK}",
    "allow:\n- ::1\n- x": f"3:3: allow: 'x' {NO_NETWORK}",
    "allow: 192.0.2.7/24": (
        "1:8: allow: 192.0.2.7/24 is an address in 192.0.2.0/24: write 192.0.2.0/24 or 192.0.2.7"
    ),
    "allow: ['::1', '2001:db8::1/32']": (
        "1:16: allow: 2001:db8::1/32 is an address in 2001:db8::/32:"
        " write 2001:db8::/32 or 2001:db8::1"
    ),
    "allow: [192.0.2.7, 192.0.2.7/32]": "1:20: allow: 192.0.2.7/32 is there twice",
    "allow: fe80::1%eth0": (
        "1:8: allow: 'fe80::1%eth0' names an interface, but only addresses are compared"
    ),
    "allow: '::ffff:192.0.2.0/120'": (
        "1:8: allow: ::ffff:192.0.2.0/120 stands for IPv4: write 192.0.2.0/24"
    ),
    "greeting: yes": "1:11: greeting: True is not text; put it in quotes",
    "greeting: NO": "1:11: greeting: False is not text; put it in quotes",
    "greeting: 220": "1:11: greeting: 220 is not text; put it in quotes",
    "greeting: 1:30": "1:11: greeting: 90 is not text; put it in quotes",
    "greeting: 2.0": "1:11: greeting: 2.0 is not text; put it in quotes",
    "greeting:": "1:10: greeting: None is not text; put it in quotes",
    "greeting: ~": "1:11: greeting: None is not text; put it in quotes",
    "greeting: 2008-01-01": (
        "1:11: greeting: datetime.date(2008, 1, 1) is not text; put it in quotes"
    ),
    "greeting: 2008-99-99": "1:11: greeting: can't be read as timestamp",
    "greeting: {a: b}": "1:11: greeting: {'a': 'b'} is not text; put it in quotes",
    "greeting: |\n  two\n  lines\n": "1:11: greeting: holds a newline, but can only be one line",
    'greeting: "two\\nlines"': "1:11: greeting: holds a newline, but can only be one line",
    f"greeting: {'x' * 4097}": "1:11: greeting: is longer than 4096 characters",
    'greeting: "\\ud800"': "1:11: greeting: '\\ud800' has characters that UTF-8 can't encode",
    "ack: on": "1:6: ack: True is not text; put it in quotes",
    "ack: 'not received'": (
        "1:6: ack: begins with `not received`, which clients take for a refusal"
    ),
    "ack: not connected": "1:6: ack: begins with `not connect`, which clients take for a refusal",
    "max_payload: 0": "1:14: max_payload: 0 is not between 1 and 131072",
    "max_payload: 131073": "1:14: max_payload: 131073 is not between 1 and 131072",
    "max_payload: 64K": "1:14: max_payload: '64K' is not a whole number",
    "max_payload: true": "1:14: max_payload: True is not a whole number",
    "max_connections: 0": f"1:18: max_connections: 0 {CLIENTS_LIMIT}",
    "max_connections: 1000001": f"1:18: max_connections: 1000001 {CLIENTS_LIMIT}",
    "max_connections: null": "1:18: max_connections: None is not a whole number",
    "max_connections_per_client: 0": f"1:29: max_connections_per_client: 0 {CLIENTS_LIMIT}",
    "max_connections_per_client: x": "1:29: max_connections_per_client: 'x' is not a whole number",
    "idle_timeout: -1": f"1:15: idle_timeout: -1 {TIME_LIMIT}",
    "idle_timeout: 1000001": f"1:15: idle_timeout: 1000001 {TIME_LIMIT}",
    "idle_timeout: .inf": f"1:15: idle_timeout: inf {TIME_LIMIT}",
    "idle_timeout: .nan": f"1:15: idle_timeout: nan {TIME_LIMIT}",
    f"idle_timeout: {10**400}": f"1:15: idle_timeout: {10**400} {TIME_LIMIT}",
    "idle_timeout: 10:00": (
        "1:15: idle_timeout: 10:00 stands for 600; write it as a decimal number"
    ),
    "idle_timeout: 1:30.5": (
        "1:15: idle_timeout: 1:30.5 stands for 90.5; write it as a decimal number"
    ),
    "idle_timeout: 10s": "1:15: idle_timeout: '10s' is not a number of seconds",
    "idle_timeout: null": "1:15: idle_timeout: None is not a number of seconds",
    "idle_timeout: false": "1:15: idle_timeout: False is not a number of seconds",
    "journal_wait: never": "1:15: journal_wait: 'never' is not a number of seconds",
    "journal_wait: -0.1": f"1:15: journal_wait: -0.1 {TIME_LIMIT}",
    "record: all": "1:9: record: 'all' is none of these: each, batch, none",
    "record: Each": "1:9: record: 'Each' is none of these: each, batch, none",
    "record: true": "1:9: record: True is none of these: each, batch, none",
    "record: [each]": "1:9: record: ['each'] is none of these: each, batch, none",
    "record:": "1:8: record: None is none of these: each, batch, none",
    "durability: fsync": "1:13: durability: 'fsync' is none of these: journal, disk",
    "durability: true": "1:13: durability: True is none of these: journal, disk",
    "durability:": "1:12: durability: None is none of these: journal, disk",
    "wal_size: 16777215": "1:11: wal_size: 16777215 is not between 16777216 and 1099511627776",
    "wal_size: 1G": "1:11: wal_size: '1G' is not a whole number",
    "wal_size: null": "1:11: wal_size: None is not a whole number",
    "wal_directory: ackd": (
        "1:16: wal_directory: 'ackd' is not an absolute path, such as /srv/ackd"
    ),
    "wal_directory: ''": "1:16: wal_directory: '' is not an absolute path, such as /srv/ackd",
    "wal_directory: 7": "1:16: wal_directory: 7 is not text; put it in quotes",
    'wal_directory: "/a\\0b"': (
        "1:16: wal_directory: '/a\\x00b' holds a NUL, which no path can have"
    ),
    "tls_certificate: ssl/a.pem": f"1:18: tls_certificate: 'ssl/a.pem' {NO_FILE}",
    "tls_certificate: ''": f"1:18: tls_certificate: '' {NO_FILE}",
    "tls_certificate: [a, b]": ("1:18: tls_certificate: ['a', 'b'] is not text; put it in quotes"),
    "tls_key: ..": f"1:10: tls_key: '..' {NO_FILE}",
    "tls_key: the key": f"1:10: tls_key: 'the key' {NO_FILE}",
    "tls_key: 'a:b'": f"1:10: tls_key: 'a:b' {NO_FILE}",
    'tls_key: "/a\\0b"': "1:10: tls_key: '/a\\x00b' holds a NUL, which no path can have",
    "tls_client_ca: |\n  -----BEGIN CERTIFICATE-----\n  MII\n": (
        "1:16: tls_client_ca: holds a newline, but can only be one line"
    ),
    "tls_client_ca: 7": "1:16: tls_client_ca: 7 is not text; put it in quotes",
    "tls_allow: ''": "1:12: tls_allow: '' is not the name of a client",
    "tls_allow: ' a'": "1:12: tls_allow: ' a' is not the name of a client",
    "tls_allow: '*'": f"1:12: tls_allow: '*' {NO_PATTERN}",
    "tls_allow: ['*.a', 'b*.a']": f"1:20: tls_allow: 'b*.a' {NO_PATTERN}",
    "tls_allow: ['a.*.b']": f"1:13: tls_allow: 'a.*.b' {NO_PATTERN}",
    "tls_allow: [a, a]": "1:16: tls_allow: a is there twice",
    "tls_allow:": "1:11: tls_allow: None is not text; put it in quotes",
    "handshake_timeout: 0": "1:20: handshake_timeout: 0 is not between 1 and 3600",
    "handshake_timeout: 3601": "1:20: handshake_timeout: 3601 is not between 1 and 3600",
    "handshake_timeout: -1": f"1:20: handshake_timeout: -1 {TIME_LIMIT}",
    "handshake_timeout: 10s": "1:20: handshake_timeout: '10s' is not a number of seconds",
    "empty_lines: no": "1:14: empty_lines: False is none of these: record, ignore",
    "debug: 1": "1:8: debug: 1 is neither true nor false",
    "debug: 'yes'": "1:8: debug: 'yes' is neither true nor false",
    "debug:": "1:7: debug: None is neither true nor false",
}


@pytest.mark.parametrize(("text", "error"), BAD.items(), ids=[text[:40] for text in BAD])
def test_a_wrong_value_is_reported_with_its_place(text: str, error: str) -> None:
    assert errors(text) == [error]


def test_durability_disk_is_an_error_beside_record_none() -> None:
    needs = "durability: disk needs a record of each payload, but line"
    assert errors("durability: disk\nport: 1\nrecord: none") == [
        f"1:13: {needs} 3 says `record: none`"
    ]
    assert errors("record: none\ndurability: disk") == [f"2:13: {needs} 1 says `record: none`"]
    parse(b"durability: disk\nrecord: batch", "f")
    parse(b"durability: journal\nrecord: none", "f")


def test_the_keys_of_tls_can_be_combined() -> None:
    text = b"""\
tls_certificate: /etc/ssl/certs/ackd.pem
tls_key: tls-key
tls_client_ca: "/etc/the clients.pem"
tls_allow: [sensor.example.org, "*.example.org", "spiffe://example.org/a", Sensor 7]
"""
    config = parse(text, "f")
    assert (config.tls_certificate, config.tls_key) == ("/etc/ssl/certs/ackd.pem", "tls-key")
    assert config.tls_client_ca == "/etc/the clients.pem"
    names = ("sensor.example.org", "*.example.org", "spiffe://example.org/a", "Sensor 7")
    assert config.tls_allow == names
    assert str(config.problem("tls_key", "text")) == "f:2:10: tls_key: text"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tls_key: k", "1:10: tls_key: needs tls_certificate as well"),
        ("tls_certificate: c\ntls_key:", "1:18: tls_certificate: needs tls_key as well"),
        ("port: 1\ntls_client_ca: a", "2:16: tls_client_ca: needs tls_certificate as well"),
        (
            "tls_allow: [a, b]\ntls_certificate: c\ntls_key: k",
            "1:12: tls_allow: needs tls_client_ca as well",
        ),
    ],
)
def test_a_key_of_tls_needs_others(text: str, error: str) -> None:
    assert errors(text) == [error]


def test_a_key_with_a_wrong_value_is_not_missing() -> None:
    assert errors("tls_certificate: c\ntls_key: a/b") == [f"2:10: tls_key: 'a/b' {NO_FILE}"]


UNREADABLE = {
    "a pattern without quotes": (
        "tls_allow: *.example.org",
        "1:13: while scanning an alias, expected alphabetic or numeric character, but found '.';"
        " put a value that begins with * in quotes",
    ),
    "an unknown key": ("listen: 1", "1:1: listen: there is no such key"),
    "an unknown key like a known key": (
        "max_conections: 1",
        "1:1: max_conections: there is no such key; did you mean max_connections?",
    ),
    "a key in capitals": ("Port: 1", "1:1: Port: there is no such key; did you mean port?"),
    "a key that is not text": ("true: 1", "1:1: true: there is no such key"),
    "a merge key": ("<<: {port: 1}", "1:1: <<: there is no such key"),
    "a key with a terminal escape": (
        '"\\e[31m": 1',
        "1:1: '\\x1b[31m': there is no such key",
    ),
    "a key that UTF-8 can't encode": ('"\\ud800": 1', "1:1: '\\ud800': there is no such key"),
    "a list as a key": ("? [port]\n: 1", "1:3: a key must be one word"),
    "a mapping as a key": ("{port: 1}: 1", "1:1: a key must be one word"),
    "a mapping as a key in a value": (
        "bind: {{a: b}: c}",
        "1:8: bind: while constructing a mapping, found unhashable key",
    ),
    "a list": ("- port: 1", "1:1: must consist of lines like `port: 10008`"),
    "a word": ("port", "1:1: must consist of lines like `port: 10008`"),
    "a missing space": ("port:10008", "1:1: must consist of lines like `port: 10008`"),
    "a Python object": (
        "greeting: !!python/object:os.system x",
        "1:11: greeting: could not determine a constructor for the tag"
        " 'tag:yaml.org,2002:python/object:os.system'",
    ),
    "a file that is a Python object": (
        "!!python/object/apply:os.system [id]",
        "1:1: must consist of lines like `port: 10008`",
    ),
    "a tag that does not fit its value": (
        "greeting: !!str [a]",
        "1:11: greeting: expected a scalar node, but found sequence",
    ),
    "an empty number": ('port: !!int ""', "1:7: port: can't be read as int"),
    "a truth value that is none": ("debug: !!bool x", "1:8: debug: can't be read as bool"),
    "a number with too many digits": (
        f"port: 0x{'f' * 5000}",
        "1:7: port: can't be read as int",
    ),
    "a version with too many digits": (
        f"%YAML {'9' * 5000}.1\n---\n",
        "1:7: can't be read from here on",
    ),
    "an impossible date in a list": ("bind: [2008-99-99]", "1:7: bind: can't be read as seq"),
    "an impossible time": (
        "ack: !!timestamp x",
        "1:6: ack: can't be read as timestamp",
    ),
    "a number that is too large for a float": (
        f"idle_timeout: {'1:' * 200}1.0",
        "1:15: idle_timeout: can't be read as float",
    ),
    "an alias without an anchor": (
        "port: *x",
        "1:7: found undefined alias 'x'; put a value that begins with * in quotes",
    ),
    "an alias of itself": (
        "bind: &a [*a]",
        "1:7: bind: found unconstructable recursive node",
    ),
    "two documents": (
        "port: 1\n---\nport: 2",
        "2:1: expected a single document in the stream, but found another document",
    ),
    "an open quote": (
        'port: 1\nack: "ok\n',
        "3:1: while scanning a quoted scalar, found unexpected end of stream",
    ),
    "a tab before a key": (
        "port: 1\n\tack: ok",
        "2:1: while scanning for the next token, found character '\\t' that cannot start any token;"
        " use spaces instead of the tab",
    ),
    "a colon in a value": (
        "greeting: Welcome: x",
        "1:18: mapping values are not allowed here;"
        " put a value that has a colon and a space in quotes",
    ),
    "a character that YAML reserves": (
        "greeting: @home",
        "1:11: while scanning for the next token, found character '@' that cannot start any token;"
        " put a value that begins with this character in quotes",
    ),
    "a no-break space behind the colon": (
        "bind: ::1\nport:\u00a010008\n",
        "3:1: while scanning a simple key, could not find expected ':';"
        " line 2, column 6 has U+00A0 (no-break space): write an ordinary space instead",
    ),
    "a no-break space behind the colon of the first line": (
        "port:\u00a010008\ndebug: true",
        "2:6: mapping values are not allowed here;"
        " line 1, column 6 has U+00A0 (no-break space): write an ordinary space instead",
    ),
    "a no-break space in front of the value": (
        "port: \u00a010008",
        "1:7: port: '\\xa010008' is not a whole number;"
        " column 7 has U+00A0 (no-break space): write an ordinary space instead",
    ),
    "nothing but a line with a no-break space": (
        "port:\u00a010008",
        "1:1: must consist of lines like `port: 10008`;"
        " column 6 has U+00A0 (no-break space): write an ordinary space instead",
    ),
    "typographic quotes around a value": (
        "greeting: \u201cWelcome\u201d",
        "1:11: greeting: \u201cWelcome\u201d is in quotes that YAML takes for a part of the text;"
        " column 11 has U+201C (left double quotation mark): write \" or ' instead",
    ),
    "typographic quotes around an address": (
        "bind: [\u201c127.0.0.1\u201d]",
        f"1:8: bind: '\u201c127.0.0.1\u201d' {NO_ADDRESS};"
        " column 8 has U+201C (left double quotation mark): write \" or ' instead",
    ),
    "an error before a comment with typographic quotes": (
        "port: x # \u201cten\u201d",
        "1:7: port: 'x' is not a whole number",
    ),
    "an error behind a byte order mark": ("\ufeffport: x", "1:7: port: 'x' is not a whole number"),
    "a character far beyond Unicode": (
        'ack: "\\UFFFFFFFF"',
        "1:9: can't be read from here on",
    ),
    "a character just beyond Unicode": (
        'ack: "\\U00110000"',
        "1:9: can't be read from here on",
    ),
    "a control character": ("port: 1\nack: \x1b", "2:6: special characters are not allowed"),
    "NUL": ("\0", "1:1: special characters are not allowed"),
    "endless nesting": ("[" * 5000, " is nested too deeply"),
    "endless nesting in a value": ("port: " + "[" * 5000, " is nested too deeply"),
}


@pytest.mark.parametrize(("text", "error"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_text_is_reported_with_its_place(text: str, error: str) -> None:
    assert errors(text) == [error]


def test_text_that_is_not_utf8_is_reported_with_its_place() -> None:
    assert errors(b"port: 1\nack: \xff") == ["2:6: is not UTF-8 from here on"]
    assert errors("port: 1".encode("utf-16")) == ["1:1: is not UTF-8 from here on"]
    assert errors("greeting: Grüß Gott".encode("latin-1")) == ["1:13: is not UTF-8 from here on"]


def test_all_errors_are_reported_in_the_order_of_the_file() -> None:
    text = """\
port: 70000
prot: 1
bind: [127.0.0.1, x]
port: 22
ack: yes
"""
    assert errors(text) == [
        "1:7: port: 70000 is not between 0 and 65535",
        "2:1: prot: there is no such key; did you mean port?",
        f"3:19: bind: 'x' {NO_ADDRESS}",
        "4:1: port: has been set before, in line 1",
        "5:6: ack: True is not text; put it in quotes",
    ]


def test_broken_yaml_is_the_only_error_that_is_reported() -> None:
    assert errors("{ack: yes, port: [::1]}") == [
        f'1:19: {NO_NODE}; put the IPv6 address in quotes: "::1"'
    ]


def test_all_errors_of_a_list_are_reported() -> None:
    assert errors("allow: [10.0.0.1/8, lan, 10.1.0.0/16, 300.1.1.1, 10.1.0.0/16]") == [
        "1:9: allow: 10.0.0.1/8 is an address in 10.0.0.0/8: write 10.0.0.0/8 or 10.0.0.1",
        f"1:21: allow: 'lan' {NO_NETWORK}",
        f"1:39: allow: '300.1.1.1' {NO_NETWORK}",
        "1:50: allow: 10.1.0.0/16 is there twice",
    ]


def test_very_many_errors_are_counted() -> None:
    *shown, last = errors("bind: [" + ", ".join(f"x{n}" for n in range(1000)) + "]")
    assert len(shown) == 100
    assert last == " and further errors: 900"


NETWORKS = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000)]


@pytest.mark.parametrize(
    "text", ["allow:\n- " + "\n- ".join(NETWORKS), "allow: [" + ", ".join(NETWORKS) + "]"]
)
def test_ten_thousand_networks_are_read_by_the_fast_parser(text: str) -> None:
    assert len(parse(text.encode(), "f").allow) == 10_000
    assert long_document(text)


def test_an_error_in_a_long_text_has_its_place() -> None:
    text = "allow:\n- " + "\n- ".join([*NETWORKS, "lan"])
    assert errors(text) == [f"10002:3: allow: 'lan' {NO_NETWORK}"]
    assert errors(text + "\nack: a: b")[0].startswith("10003:7: mapping values are not allowed")


@pytest.mark.parametrize("piece", ["[", "- ", "{a: ", "? "])
def test_endless_nesting_in_a_long_text_is_an_error(piece: str) -> None:
    assert errors(piece * 200_000)[0].endswith("is nested too deeply")


def test_an_unreadable_value_hides_no_other_error() -> None:
    assert errors("ack: yes\ngreeting: 2008-99-99\nport: 70000") == [
        "1:6: ack: True is not text; put it in quotes",
        "2:11: greeting: can't be read as timestamp",
        "3:7: port: 70000 is not between 0 and 65535",
    ]


def test_several_errors_in_one_line_are_reported_in_its_order() -> None:
    assert errors("{debug: 2, port: 70000, x: 1}") == [
        "1:9: debug: 2 is neither true nor false",
        "1:18: port: 70000 is not between 0 and 65535",
        "1:25: x: there is no such key",
    ]


def test_a_key_that_is_set_again_is_an_error() -> None:
    assert errors("port: 1\nport: 1\n\n'port': 2\n") == [
        "2:1: port: has been set before, in line 1",
        "4:1: port: has been set before, in line 1",
    ]


def test_a_very_long_value_is_shortened_in_the_error() -> None:
    (error,) = errors(f"port: {'x' * 100_000}")
    assert re.fullmatch(r"1:7: port: 'x+\.\.\.x+' is not a whole number", error)
    assert len(error) < 200


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    ninefold = [f"- &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 30)]
    (error,) = errors("\n".join(["port:", "- &a0 x", *ninefold]))
    assert error.startswith("2:1: port: ['x', [")
    assert len(error) < 1000


def test_an_error_names_the_file_as_the_caller_did(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("# mine\n\nport: 70000\n")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value) == f"{path}:3:7: port: 70000 is not between 0 and 65535"


def test_a_missing_file_is_an_error_unless_it_is_optional(tmp_path: Path) -> None:
    path = str(tmp_path / "none.yaml")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: No such file or directory"
    assert load(path, optional=True) == Config()


@pytest.mark.parametrize("optional", [False, True])
def test_an_unreadable_file_is_an_error_even_if_it_is_optional(
    tmp_path: Path, optional: bool
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path), optional)
    assert str(caught.value) == f"{tmp_path}: Is a directory"


def test_a_file_that_is_gone_is_an_error_although_it_is_optional(tmp_path: Path) -> None:
    path = tmp_path / "ackd.yaml"
    file = ConfigFile(str(path), optional=True)
    assert file.load() == Config()
    path.write_text("port: 7\n")
    assert file.load() == Config(port=7)
    path.unlink()
    with pytest.raises(ConfigError) as caught:
        file.load()
    assert str(caught.value) == (
        f"{path}: No such file or directory; an empty file stands for the defaults"
    )
    path.write_text("")
    assert file.load() == Config()


def test_a_link_that_leads_nowhere_is_an_error_although_it_is_optional(tmp_path: Path) -> None:
    path = tmp_path / "ackd.yaml"
    path.symlink_to(tmp_path / "unmounted" / "ackd.yaml")
    with pytest.raises(ConfigError):
        load(str(path), optional=True)
    (tmp_path / "unmounted").mkdir()
    (tmp_path / "unmounted" / "ackd.yaml").write_text("port: 7\n")
    assert load(str(path), optional=True) == Config(port=7)


def test_what_is_no_regular_file_is_an_error_at_once(tmp_path: Path) -> None:
    fifo, unix = tmp_path / "fifo", tmp_path / "socket"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(unix))
        for path in (fifo, unix, Path("/dev/zero"), Path("/dev/tty")):
            with pytest.raises(ConfigError) as caught:
                load(str(path))
            assert str(caught.value) == f"{path}: is not a regular file"


def test_a_file_of_more_than_a_megabyte_is_an_error_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ackd.yaml"
    path.write_bytes(b"#" * (1 << 20))
    assert load(str(path)) == Config()
    with path.open("ab") as file:
        file.truncate(1 << 40)  # a sparse file
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value) == f"{path}: is larger than 1048576 bytes"


def test_an_optional_file_that_exists_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ackd.yaml"
    path.write_text("port: 7\n")
    assert load(str(path), optional=True) == Config(port=7)


def test_the_shipped_file_gives_the_defaults() -> None:
    assert load(str(SHIPPED)) == Config()


def test_the_shipped_file_shows_every_key_with_its_default() -> None:
    settings_shown = re.findall(r"^#(\w+:.*)$", SHIPPED.read_text(), re.MULTILINE)
    assert [line.partition(":")[0] for line in settings_shown] == KEYS
    assert parse("\n".join(settings_shown).encode(), "f") == Config()


def test_the_shipped_file_can_be_changed_line_by_line() -> None:
    uncommented = re.sub(r"^#(\w+:)", r"\1", SHIPPED.read_text(), flags=re.MULTILINE)
    assert parse(uncommented.encode(), "f") == Config()
    assert parse(uncommented.replace("10008", "7").encode(), "f") == Config(port=7)


def test_a_single_setting_is_checked_like_one_in_a_file() -> None:
    assert check("bind", "::1") == ("::1",)
    assert check("port", 7) == 7
    with pytest.raises(BadValueError, match="70000 is not between 0 and 65535"):
        check("port", 70000)


# Pieces of YAML with a meaning, so that random texts are often almost correct.
PIECES = [
    *(f"{key}: " for key in KEYS),
    *("\n", " ", "\t", ": ", "- ", "[", "]", "{", "}", ", ", '"', "'", "? ", "---\n", "#", "|\n"),
    *("&a ", "*a", "<<: ", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!str "),
    *("!!set ", "!!omap ", "!!pairs ", "!x ", "%YAML 1.1\n", "%TAG ! !!\n", "\\x", "\\U", "ffff"),
    *("1", "022", "0x", "_", "1:30", ".", "e+9", "-", ".inf", "2008-01-01", "yes", "~", "=", "::"),
    *("127.0.0.1", "/24", "\0", "\x85", "\u2028", "\ufeff"),
]


@settings(deadline=None)
@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()))
@example(b'%YAML 1.1\n%YAML 1.1\n---\n"')
@example(b"%YAML " + b"9" * 5000 + b".1\n---\n")
def test_any_bytes_give_a_configuration_or_an_error_with_problems(text: bytes) -> None:
    outcome = read(text)
    if isinstance(outcome, Config):
        lists = {"bind": list(outcome.bind), "allow": list(map(str, outcome.allow))}
        lists |= {"tls_allow": list(outcome.tls_allow)}
        settings = outcome._asdict() | lists
        del settings["places"]
        settings |= {k: v.value for k, v in settings.items() if isinstance(v, enum.Enum)}
        assert read(yaml.safe_dump(settings).encode()) == outcome
    else:
        assert outcome.problems
        assert all(problem.text.isprintable() for problem in outcome.problems)


def read(text: bytes) -> Config | ConfigError:
    try:
        return parse(text, "f")
    except ConfigError as error:
        return error
