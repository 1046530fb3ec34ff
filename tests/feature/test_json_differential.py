# SPDX-License-Identifier: Apache-2.0
"""base/json against Python's json module: the same documents, thousands of them damaged, must be taken or refused alike
and mean the same. The differences that are meant stand in `expected` and in docs/reference/json.md."""
import json
import os
import random
import re
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("HEADGATE_BUILDDIR", "."))
CHECK = BUILD / "tests/tools/json_check"
SEED = 20261121
ROUNDS = int(os.environ.get("HEADGATE_JSON_ROUNDS", "20000"))
DEPTH_MAX = 64

pytestmark = pytest.mark.skipif(not CHECK.exists(), reason=f"{CHECK} is not built (make check)")


class Number(str):
    """A number's text, as it stood."""


class Refused(Exception):
    pass


def no_constant(name):
    raise Refused(f"{name} is no JSON")


def python_reads(body):
    """What Python makes of the bytes: nested lists, Pairs as tuples, Numbers as text."""
    text = body.decode("utf-8")  # strict: neither UTF-16 nor surrogates pass
    return json.loads(text, object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=no_constant)


def depth(value):
    if isinstance(value, list):
        return 1 + max((depth(v) for v in value), default=0)
    if isinstance(value, tuple):
        return 1 + max((depth(v) for _, v in value), default=0)
    return 0


def dump_number(text):
    mantissa, _, exponent = text.lower().partition("e")
    exponent = int(exponent or "0")
    exact = None
    if not re.search("[1-9]", mantissa):
        exact = Fraction(0)
    elif abs(exponent) < 5000:
        exact = Fraction(mantissa) * Fraction(10) ** exponent
    if exact is not None and exact.denominator == 1 and -2**63 <= exact < 2**63:
        return f"#{text}={exact}"
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return f"#{text}!"
    return f"#{text}~{struct.unpack('<Q', struct.pack('<d', value))[0]:016x}"


def dump(value):
    if value is None:
        return "n"
    if value is True:
        return "t"
    if value is False:
        return "f"
    if isinstance(value, Number):
        return dump_number(value)
    if isinstance(value, str):
        return "s" + value.encode("utf-8").hex()  # raises for half a surrogate pair
    if isinstance(value, list):
        return "[" + "".join(dump(v) + "," for v in value) + "]"
    return "{" + "".join(dump(k) + ":" + dump(v) + "," for k, v in value) + "}"


def expected(body):
    """The line json_check should print, up to the message."""
    try:
        value = python_reads(body)
        if depth(value) > DEPTH_MAX:
            return "refused"  # Python has no such limit
        return "taken " + dump(value)
    except (ValueError, Refused, RecursionError):  # UnicodeEncodeError, half a pair, is a ValueError
        return "refused"


def ours(bodies):
    stream = b"".join(struct.pack("<I", len(b)) + b for b in bodies)
    done = subprocess.run([CHECK], input=stream, stdout=subprocess.PIPE, check=True, timeout=300)
    lines = done.stdout.decode("utf-8").split("\n")
    assert len(lines) == len(bodies) + 1
    return lines[:-1]


def compare(bodies):
    wrong = []
    for body, line in zip(bodies, ours(bodies)):
        want = expected(body)
        got = "refused" if line.startswith("refused ") else line
        if got != want:
            wrong.append((body, want, line))
    assert not wrong, f"{len(wrong)} of {len(bodies)} differ, first: {wrong[:3]}"


SEEDS = [
    b'{"model":"gpt-4o","messages":[{"role":"user","content":"Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x99\x82 \\u4eca\\ud83d\\ude42"}],"temperature":0.7,"stream":true}',
    b'[0, -0, 1.0, 1e3, -1.5E-3, 9223372036854775807, 9223372036854775808, 1e400, 5e-324, 0.1, 123456789012345678901234567890]',
    b' {\r\n\t"a" : null , "a" : [ ] , "" : { } , "b\\n" : [ true , false , "\\"\\\\\\/\\b\\f\\n\\r\\t" ] } ',
    b'[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]',
    '{"日本語":"今日は","é":["\u2028","\U0010ffff","\ue000","\u007f"]}'.encode(),
    b'{"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\\"x\\":1,\\"y\\":[\\"\\\\u00e9\\"]}"}}]}',
    b'"a\\ud83dz\\ude42"', b"-12.50e+07", b'"\\u0000"', b"[NaN, Infinity, -Infinity]",
]
PIECES = [b",", b":", b'"', b"\\", b"{", b"}", b"[", b"]", b"0", b"-", b"1", b".", b"e", b"E+", b"e9", b"\\u", b"\\ud800", b"\\udc00", b"\\u0000", b"true", b"null",
          b"NaN", b" ", b"\n", b"\t", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x99\x82", b"\xf4\x90\x80\x80",
          b"\xc0\xaf", b"\xe0\x80\x80", b"\xff", b"\xef\xbb\xbf", b"\x0c", b"/*", b"//", b"'", b"99999999999999999999", b"\xc2\xa0"]


def damaged(rng):
    body = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 5])):
        at = rng.randrange(len(body) + 1)
        what = rng.randrange(6)
        if what == 0:
            body[at:at] = rng.choice(PIECES)
        elif what == 1:
            del body[at : at + rng.choice([1, 1, 2, 5])]
        elif what == 2 and at < len(body):
            body[at] = rng.randrange(256)
        elif what == 3:
            del body[at:]
        elif what == 4:
            end = min(len(body), at + rng.randrange(1, 12))
            body[at:at] = body[at:end]
        else:
            end = at + rng.randrange(1, 4)
            body[at:end] = rng.choice(PIECES)
    return bytes(body)


def random_value(rng, levels):
    kind = rng.randrange(8 if levels else 5)
    if kind == 0:
        return rng.choice(["null", "true", "false"])
    if kind == 1:
        return str(rng.choice([0, 1, -1, rng.getrandbits(rng.randrange(1, 80)), -rng.getrandbits(64), 2**63, -(2**63)]))
    if kind == 2:
        return repr(rng.uniform(-1, 1) * 10 ** rng.randrange(-320, 308))
    if kind in (3, 4):
        text = "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x80, 0xD800), rng.randrange(0xE000, 0x110000)])) for _ in range(rng.randrange(40)))
        return json.dumps(text, ensure_ascii=rng.random() < 0.5)
    space = rng.choice(["", "", " ", "\n\t"])
    n = rng.randrange(5)
    if kind in (5, 6):
        return "[" + space + ("," + space).join(random_value(rng, levels - 1) for _ in range(n)) + space + "]"
    return "{" + space + ("," + space).join(f'"{rng.choice("abc")}{space}":{space}{random_value(rng, levels - 1)}' for _ in range(n)) + "}"


def test_the_undamaged_documents_mean_the_same():
    compare(SEEDS)


def test_damaged_documents_are_judged_alike():
    rng = random.Random(SEED)
    bodies = [damaged(rng) for _ in range(ROUNDS)]
    taken = sum(expected(b) != "refused" for b in bodies)
    assert taken > ROUNDS // 20, "nearly nothing is taken: the damage is too coarse to tell anything"
    compare(bodies)


def test_random_documents_mean_the_same():
    rng = random.Random(SEED + 1)
    compare([random_value(rng, rng.randrange(7)).encode() for _ in range(ROUNDS // 4)])


def test_random_numbers_mean_the_same():
    rng = random.Random(SEED + 2)
    bodies = []
    for _ in range(ROUNDS // 4):
        digits = "".join(rng.choice("0123456789") for _ in range(rng.choice([1, 2, 5, 16, 17, 18, 19, 20, 30])))
        cut = rng.randrange(len(digits) + 1)
        text = rng.choice(["", "-"]) + (digits[:cut].lstrip("0") or "0")
        if cut < len(digits):
            text += "." + digits[cut:]
        if rng.random() < 0.5:
            text += rng.choice(["e", "E", "e+", "e-"]) + str(rng.choice([0, 1, 5, 15, 22, 23, rng.randrange(400)]))
        bodies.append(text.encode())
    compare(bodies)


def test_the_meant_differences_stay_as_they_are():
    refused = [b"NaN", b"[Infinity]", b"-Infinity", "{}".encode("utf-16"), "{}".encode("utf-32"), b"\xef\xbb\xbf{}", b'"\\ud800"',
               b"[" * 65 + b"]" * 65]
    assert all(line.startswith("refused body is not JSON") for line in ours(refused))
    assert ours([b'{"a":1,"a":2}']) == ["taken {s61:#1=1,s61:#2=2,}"]
