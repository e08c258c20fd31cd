"""Recomputes vectors.json from docs/PROTOCOL.md alone, in another language: a check on the document.

Usage: python3 second_implementation.py vectors.json PROTOCOL.md (whose proto block is the schema)
Prints one line for each section and exits with 1 at the first value that differs. Standard library only;
signatures are checked when the package `cryptography` is installed.
"""

import hashlib
import json
import math
import re
import struct
import sys
from fractions import Fraction

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None

SCHEMA = {}


def read_schema(document):
    """Messages of the proto block: name -> {tag: (name, type, repeated, optional)}."""
    block = re.search(r"```proto\n(.*?)```", document, re.S).group(1)
    for name, body in re.findall(r"message (\w+) \{(.*?)\}", block, re.S):
        fields = {}
        for rule, kind, field, tag in re.findall(
            r"(repeated |optional |)(\w+) (\w+) = (\d+)", body
        ):
            fields[int(tag)] = (field, kind, rule.strip())
        SCHEMA[name] = fields


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def check(what, actual, expected):
    if actual != expected:
        sys.exit(f"{what} is {actual!r}; vectors.json says {expected!r}")


# ---- Protocol Buffers ----


def read_varint(data, position):
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def decode(name, data):
    fields = SCHEMA[name]
    message = {}
    for field, kind, rule in fields.values():
        if rule == "repeated":
            message[field] = []
        elif rule == "optional" or kind in SCHEMA:
            message[field] = None
        else:
            message[field] = {"string": "", "bytes": b"", "double": 0.0, "bool": False}.get(kind, 0)
    position = 0
    while position < len(data):
        key, position = read_varint(data, position)
        tag, wire_type = key >> 3, key & 7
        if wire_type == 0:
            raw, position = read_varint(data, position)
        elif wire_type == 1:
            raw, position = data[position : position + 8], position + 8
        elif wire_type == 2:
            length, position = read_varint(data, position)
            raw, position = data[position : position + length], position + length
        else:
            raise ValueError(f"wire type {wire_type}")
        if tag not in fields:
            continue
        field, kind, rule = fields[tag]
        if kind in SCHEMA:
            value = decode(kind, raw)
        elif kind == "string":
            value = raw.decode("utf-8")
        elif kind == "double":
            value = struct.unpack("<d", raw)[0]
        elif kind == "bool":
            value = raw != 0
        else:
            value = raw
        if rule == "repeated":
            message[field].append(value)
        else:
            message[field] = value
    return message


def encode(name, message):
    """The canonical encoding."""
    out = b""
    for tag, (field, kind, rule) in sorted(SCHEMA[name].items()):
        value = message[field]
        for item in value if rule == "repeated" else [value]:
            if item is None:
                continue
            if rule == "" and kind not in SCHEMA and item in (0, 0.0, False, "", b""):
                continue
            if kind in ("uint32", "uint64", "bool"):
                out += varint(tag << 3) + varint(int(item))
            elif kind == "double":
                out += varint(tag << 3 | 1) + struct.pack("<d", item)
            else:
                if kind in SCHEMA:
                    item = encode(kind, item)
                elif kind == "string":
                    item = item.encode("utf-8")
                out += varint(tag << 3 | 2) + varint(len(item)) + item
    return out


# ---- Peer ids, randomness, fp16 ----

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def peer_id(public_key):
    data = bytes.fromhex("002408011220") + public_key
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def unbase58(text):
    number = 0
    for letter in text:
        number = 58 * number + BASE58.index(letter)
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes(len(text) - len(text.lstrip("1"))) + data


def public_key(peer):
    return unbase58(peer)[6:]


def rotl(x, k):
    return (x << k | x >> (32 - k)) & 0xFFFFFFFF


class Stream:
    def __init__(self, seed, label):
        self.s = list(struct.unpack("<4I", sha256(label.encode(), b"\0", seed)[:16]))
        if not any(self.s):
            self.s[0] = 1

    def uint32(self):
        s = self.s
        result = rotl(s[1] * 5 & 0xFFFFFFFF, 7) * 9 & 0xFFFFFFFF
        t = s[1] << 9 & 0xFFFFFFFF
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 11)
        return result

    def float(self):
        return self.uint32() / 2**32

    def below(self, n):
        while True:
            v = self.uint32()
            if v < 2**32 - 2**32 % n:
                return v % n


def half_value(pattern):
    return struct.unpack("<e", struct.pack("<H", pattern))[0]


def half(value):
    """struct rounds a float64 straight to fp16, ties to even."""
    return 0x7BFF if value >= 65504 else struct.unpack("<H", struct.pack("<e", value))[0]


# ---- Manifest, adapter, codec ----


class Run:
    def __init__(self, data):
        self.manifest = decode("Manifest", data)
        check("the canonical manifest", encode("Manifest", self.manifest).hex(), data.hex())
        self.id = sha256(data)
        adapter = self.manifest["adapter"]
        self.size = sum(
            adapter["rank"] * (m["inFeatures"] + m["outFeatures"]) for m in adapter["modules"]
        )
        members = self.manifest["membership"]["members"]
        self.codec = Codec(self.manifest["compression"]["codec"])
        self.weights = {peer_id(m["publicKey"]): m["weight"] for m in members}
        self.other_weight = self.manifest["membership"]["inviteWeight"] or 1
        self.cohorts = self.manifest["schedule"]["cohorts"]
        ranked = sorted(self.weights, key=self.member_hash)
        self.listed_cohorts = {peer: rank % self.cohorts for rank, peer in enumerate(ranked)}

    def member_hash(self, peer):
        return sha256(f"{self.id.hex()}/{peer}".encode()).hex()

    def cohort(self, peer):
        drawn = int(self.member_hash(peer)[:8], 16) % self.cohorts
        return self.listed_cohorts.get(peer, drawn)

    def initial_adapter(self):
        adapter = self.manifest["adapter"]
        theta = []
        for module in adapter["modules"]:
            stream = Stream(adapter["seed"], "lora_A/" + module["name"])
            bound = 1 / math.sqrt(module["inFeatures"])
            for _ in range(adapter["rank"] * module["inFeatures"]):
                theta.append(float32((2 * stream.float() - 1) * bound))
            theta += [0.0] * (adapter["rank"] * module["outFeatures"])
        return theta

    def blocks(self):
        return -(-self.size // BLOCK)

    def signs(self, epoch):
        stream = Stream(self.id, f"rotation/{epoch}")
        words = [stream.uint32() for _ in range(BLOCK // 32)]
        return [-1 if words[i // 32] >> i % 32 & 1 else 1 for i in range(BLOCK)]


def phase_at(phases, epoch):
    return [phase for phase in phases if phase["fromEpoch"] <= epoch][-1]


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def adapter_sha256(theta):
    return sha256(struct.pack(f"<{len(theta)}f", *theta)).hex()


BLOCK = 256


def transform(block):
    """The Walsh-Hadamard transform, by its recursive definition: sums and differences of neighbours first."""
    values = list(block)
    distance = 1
    while distance < BLOCK:
        for i in range(BLOCK):
            if i & distance == 0:
                a, b = values[i], values[i + distance]
                values[i], values[i + distance] = a + b, a - b
        distance *= 2
    return values


def rotate(values, signs):
    blocks = [values[i : i + BLOCK] for i in range(0, len(values), BLOCK)]
    return [z for block in blocks for z in transform([x * (r / 16) for x, r in zip(block, signs)])]


def rotate_back(values, signs):
    blocks = [values[i : i + BLOCK] for i in range(0, len(values), BLOCK)]
    return [y * (r / 16) for block in blocks for y, r in zip(transform(block), signs)]


TILE = 16 * BLOCK


class Codec:
    """Codec 1 writes the signs of each block; 2 and 3 those of the largest values of each tile."""

    def __init__(self, number):
        self.span = BLOCK if number == 1 else TILE
        self.block_bytes, self.divisor, self.factor = CODECS[number]

    def sizes(self, blocks):
        return {"scales": 2 * -(-blocks * BLOCK // self.span), "codes": self.block_bytes * blocks}

    def parts(self, scales, codes):
        """Each scale with the codes that it belongs to."""
        step = self.block_bytes * self.span // BLOCK
        halves = struct.unpack(f"<{len(scales) // 2}H", scales)
        return [(half_value(s), codes[i * step : (i + 1) * step]) for i, s in enumerate(halves)]

    def read(self, scales, codes):
        """+s, 0 - s (never -0) or 0 for each coordinate of all blocks."""
        values = []
        for scale, part in self.parts(scales, codes):
            values += self.read_signs(scale, part) if self.divisor is None else self.read_largest(scale, part)
        return values

    def read_signs(self, scale, part):
        string = int.from_bytes(part, "little")
        return [0 - scale if string >> i & 1 else scale for i in range(BLOCK)]

    def read_largest(self, scale, part):
        values = [0.0] * (len(part) // self.block_bytes * BLOCK)
        bits = "".join(f"{byte:08b}" for byte in part)
        place = -1
        while (zero := bits.find("0")) >= 0:
            width, short = self.remainder()
            bits, rest = bits[zero + 1 :], bits[zero + 1 :]
            length = width - 1 if len(rest) >= width - 1 and int(rest[: width - 1], 2) < short else width
            if len(rest) < length + 1:
                break
            remainder = int(rest[:length], 2) - (short if length == width else 0)
            place += 1 + zero * self.divisor + remainder
            if place >= len(values):
                break
            values[place] = 0 - scale if rest[length] == "1" else scale
            bits = rest[length + 1 :]
        return values

    def remainder(self):
        """Bits of a long remainder, and how many are a bit shorter."""
        width = math.ceil(math.log2(self.divisor))
        return width, 2**width - self.divisor

    def write(self, rotated):
        scales, codes = b"", b""
        for start in range(0, len(rotated), self.span):
            part = rotated[start : start + self.span]
            size = self.block_bytes * len(part) // BLOCK
            kept = list(range(len(part))) if self.divisor is None else self.largest(part, 8 * size)
            total = 0.0
            for i in kept:
                total += abs(part[i])
            scales += struct.pack("<H", half(self.factor / max(1, len(kept)) * total))
            if self.divisor is None:
                codes += sum((z < 0) << i for i, z in enumerate(part)).to_bytes(size, "little")
            else:
                codes += int(self.entries(part, kept).ljust(8 * size, "1"), 2).to_bytes(size, "big")
        return scales, codes

    def largest(self, part, bits):
        """The places of as many of the largest values as `bits` hold; of equal ones the first."""
        order = sorted((i for i, z in enumerate(part) if z != 0), key=lambda i: (-abs(part[i]), i))
        fits, beyond = 0, len(order) + 1
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if len(self.entries(part, sorted(order[:middle]))) <= bits:
                fits = middle
            else:
                beyond = middle
        return sorted(order[:fits])

    def entries(self, part, places):
        text, following = [], 0
        width, short = self.remainder()
        for place in places:
            quotient, remainder = divmod(place - following, self.divisor)
            code = f"{remainder:0{width - 1}b}" if remainder < short else f"{remainder + short:0{width}b}"
            text.append("1" * quotient + "0" + code + ("1" if part[place] < 0 else "0"))
            following = place + 1
        return "".join(text)


# Bytes of codes a block, divisor of gaps, scale in units of the mean magnitude.
CODECS = {1: (32, None, 1.4), 2: (20, 6, 1.4), 3: (10, 15, 1.4)}


def compress(codec, residual, signs):
    return codec.write(rotate(residual + [0.0] * (-len(residual) % BLOCK), signs))


# ---- Blobs ----


CHUNK = 262144
PART = 128 * CHUNK


def chunk_hashes(data):
    return [sha256(data[i : i + CHUNK]) for i in range(0, len(data), CHUNK)]


def blob_root(hashes):
    return sha256(*hashes)


# ---- Updates, log, fold ----


def verify(public_key, data, signature):
    if Ed25519PublicKey is None:
        return
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except InvalidSignature:
        sys.exit("a signature does not verify")


def read_header(run, signed):
    header = decode("UpdateHeader", signed["header"])
    check("the canonical header", encode("UpdateHeader", header), signed["header"])
    check("the run of an update", header["runId"], run.id)
    verify(header["author"], b"murmurate/update/1\n" + signed["header"], signed["signature"])
    header["id"] = sha256(signed["header"])
    header["peer"] = peer_id(header["author"])
    check("the author's turn", header["epoch"] % run.cohorts, run.cohort(header["peer"]))
    return header


def read_update(run, update):
    header = read_header(run, update)
    sizes = {name: len(update[name]) for name in ("scales", "codes")}
    check("bytes of the body", sizes, run.codec.sizes(run.blocks()))
    body = update["scales"] + update["codes"]
    check("the body's root", blob_root(chunk_hashes(body)), header["bodyRoot"])
    header["rotated"] = run.codec.read(update["scales"], update["codes"])
    header["values"] = rotate_back(header["rotated"], run.signs(header["epoch"]))[: run.size]
    return header


def read_gossip(run, data):
    message = decode("Gossip", data)
    check("kinds in a message", sum(value is not None for value in message.values()), 1)
    return read_update(run, message["update"])


def read_admission(run, signed):
    admission = decode("Admission", signed["admission"])
    check("the canonical admission", encode("Admission", admission), signed["admission"])
    invitation = decode("Invitation", admission["invitation"])
    check("the canonical invitation", encode("Invitation", invitation), admission["invitation"])
    check("version and run", [invitation["version"], invitation["runId"]], [1, run.id])
    check("an admission in time", admission["firstEpoch"] <= invitation["lastEpoch"], True)
    signed_bytes = b"murmurate/invitation/1\n" + admission["invitation"]
    verify(run.manifest["founder"], signed_bytes, admission["signature"])
    signed_bytes = b"murmurate/admission/1\n" + signed["admission"]
    verify(invitation["key"], signed_bytes, signed["keySignature"])
    verify(admission["member"], signed_bytes, signed["memberSignature"])
    return invitation["key"].hex(), peer_id(admission["member"]), admission["firstEpoch"]


class Members:
    def __init__(self, listed, admissions):
        self.listed = listed
        self.used = {}
        for key, peer, epoch in admissions:
            users = self.used.setdefault(key, {})
            users[peer] = min(epoch, users.get(peer, epoch))

    def first_epoch(self, peer):
        if peer in self.listed:
            return 0
        epochs = [users[peer] for users in self.used.values() if list(users) == [peer]]
        return min(epochs, default=math.inf)

    def digest(self):
        if not self.used:
            return b""
        parts = []
        for key, users in sorted(self.used.items()):
            [(peer, epoch), *others] = users.items()
            parts.append(f"void {key}" if others else f"{key} {peer} {epoch}")
        return sha256("".join(parts).encode())


class Log:
    def __init__(self, admissions=b""):
        self.updates = {}
        # Author -> the first epoch that does not count any more.
        self.evicted = {}
        self.admissions = admissions
        self.sealed = ""

    def insert(self, update):
        peer, epoch = slot = update["peer"], update["epoch"]
        if epoch >= self.evicted.get(peer, math.inf):
            return
        if slot in self.updates and self.updates[slot]["id"] != update["id"]:
            self.evicted[peer] = epoch
            self.updates = {s: u for s, u in self.updates.items() if s[0] != peer or s[1] < epoch}
        else:
            self.updates[slot] = update

    def seal(self, epoch, statement_id):
        self.sealed = statement_id
        self.updates = {slot: u for slot, u in self.updates.items() if slot[1] >= epoch}

    def author_digest(self, author):
        slots = sorted(slot for slot in self.updates if slot[0] == author)
        return sha256(*(self.updates[slot]["id"] for slot in slots))

    def digest(self):
        authors = sorted({author for author, _ in self.updates})
        parts = [author.encode() + self.author_digest(author) for author in authors]
        return sha256(self.sealed.encode(), *parts, self.admissions)


def fold(run, log, dropped=None):
    """The sum of steps; into `dropped`, when given, whom the filter left out, by epoch."""
    rule = run.manifest["fold"]
    size = len(run.initial_adapter())
    total_steps = [0] * size
    for epoch in sorted({epoch for _, epoch in log.updates}):
        rows = [log.updates[slot] for slot in sorted(log.updates) if slot[1] == epoch]
        norms = [math.sqrt(squared_length(row["rotated"], run.codec.span)) for row in rows]
        bound = rule["clip"] * median([n for n in norms if n > 0]) if rule["clip"] else math.inf
        clips = [bound / norm if norm > bound else 1 for norm in norms]
        lags = [epoch - row["baseEpoch"] for row in rows]
        stalenesses = [1 if lag <= 2 else 2 / lag for lag in lags]
        if rule["mode"] == 2:
            factors = [s * c for s, c in zip(stalenesses, clips)]
            g = robust_mean([[v * factor for v in row["values"]] for row, factor in zip(rows, factors)], rule)
        else:
            weights = [run.weights.get(row["peer"], run.other_weight) for row in rows]
            if rule["mode"] == 3 and len(rows) >= 4:
                low = against_most(run, epoch, rows, norms)
                if low and dropped is not None:
                    dropped[epoch] = [rows[i]["peer"] for i in low]
                for each in (rows, stalenesses, clips, weights):
                    each[:] = [value for i, value in enumerate(each) if i not in low]
            g = [0.0] * len(rows[0]["rotated"])
            for row, staleness, clip, weight in zip(rows, stalenesses, clips, weights):
                share = weight * staleness * clip / sum(weights)
                for j, v in enumerate(row["rotated"]):
                    g[j] = g[j] + share * v
            g = rotate_back(g, run.signs(epoch))[: run.size]
        phase = phase_at(rule["alpha"], epoch)
        alpha = phase["numerator"] / phase["denominator"]
        for t, value in enumerate(g):
            # round() of a float gives an integer, ties to even.
            total_steps[t] += round(max(-(2.0**35), min(2.0**35, alpha * 2.0**32 * value)))
    return [float(steps) for steps in total_steps]


def theta_of(run, total_steps):
    return [initial - steps / 2.0**32 for initial, steps in zip(run.initial_adapter(), total_steps)]


def dot(a, b, span):
    """Of the values of each scale it is exact, here by rational arithmetic; then they are summed in order."""
    total = 0.0
    for start in range(0, len(a), span):
        pairs = zip(a[start : start + span], b[start : start + span])
        total += float(sum(Fraction(x) * Fraction(y) for x, y in pairs if x and y))
    return total


def squared_length(values, span):
    return dot(values, values, span)


def against_most(run, epoch, rows, norms):
    """Which rows the filter drops, by place."""
    compared = list(range(len(rows)))
    if len(rows) > 32:
        stream = Stream(run.id, f"filter/{epoch}")
        for i in range(len(rows) - 1, 0, -1):
            j = stream.below(i + 1)
            compared[i], compared[j] = compared[j], compared[i]
        compared = sorted(compared[:32])

    def cosine(i, j):
        length = norms[i] * norms[j]
        return dot(rows[i]["rotated"], rows[j]["rotated"], run.codec.span) / length if length > 0 else 0

    low = [i for i in range(len(rows)) if median([cosine(i, j) for j in compared if j != i]) < -0.2]
    return low if 2 * len(low) < len(rows) else []


def robust_mean(rows, rule):
    m = len(rows)
    f = math.floor(rule["trimFraction"] * m)

    def distance(a, b):
        total = 0.0
        for x, y in zip(a, b):
            total += (x - y) * (x - y)
        return total

    near = [sorted(sorted(range(m), key=lambda j: (distance(rows[i], rows[j]), j))[: m - f]) for i in range(m)]
    g = []
    for column in zip(*rows):
        mixed = sorted(add(column[j] for j in neighbours) / len(neighbours) for neighbours in near)
        g.append(add(mixed[f : m - f]) / (m - 2 * f))
    return g


def add(values):
    """One addition after the other; from Python 3.12 on sum() compensates rounding errors."""
    total = 0.0
    for value in values:
        total += value
    return total


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return 0.0
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


# ---- The sections of vectors.json ----


def doubles(text):
    data = bytes.fromhex(text)
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def doubles_sha256(values):
    return sha256(struct.pack(f"<{len(values)}d", *values)).hex()


def check_peer_ids(vectors, _runs):
    for vector in vectors:
        check("a peer id", peer_id(bytes.fromhex(vector["publicKey"])), vector["peerId"])


def check_prng(vectors, _runs):
    for vector in vectors:
        seed, label = bytes.fromhex(vector["seed"]), vector["label"]
        draws = {
            "uint32": Stream.uint32,
            "below3221225472": lambda stream: stream.below(3221225472),
            "below10": lambda stream: stream.below(10),
        }
        for key, draw in draws.items():
            stream = Stream(seed, label)
            check(key, [draw(stream) for _ in vector[key]], vector[key])


def check_halves(vectors, _runs):
    for vector in vectors:
        check(f"nearest {vector['value']}", half(vector["value"]), vector["nearest"])


def check_runs(vectors, runs):
    for name, vector in vectors.items():
        run = runs[name]
        check("the run id", run.id.hex(), vector["runId"])
        check("the adapter's size", run.size, vector["adapterSize"])
        initial = adapter_sha256(run.initial_adapter())
        check("the initial adapter", initial, vector["initialAdapterSha256"])
        check("initialSha256", run.manifest["adapter"]["initialSha256"].hex(), initial)


def check_formats(vectors, runs):
    for vector in vectors:
        run = runs[vector["run"]]
        check("blocks", run.blocks(), vector["blocks"])
        check("signs", run.signs(vector["epoch"]), vector["signs"])
        check("coordinates", run.size, vector["coordinates"])
        check("bytes", run.codec.sizes(run.blocks()), vector["bytes"])


def row_values(kind, count):
    stream = Stream(bytes(32), f"row/{kind}")
    sizes = {"usual": 0.01, "tiny": 1e-7, "vanishing": 1e-300, "huge": 1e9}
    if kind in sizes:
        return [sizes[kind] * (2 * stream.float() - 1) for _ in range(count)]
    if kind == "spike":
        return [1.0 if i == 4200 else 1e-5 * (2 * stream.float() - 1) for i in range(count)]
    return [16.0 if kind == "equal" and i % BLOCK == 0 else 0.0 for i in range(count)]


def row_bytes(number, sizes):
    stream = Stream(bytes(32), f"bytes/{number}")
    codes = bytearray(sizes["codes"])
    for i in range(len(codes)):
        codes[i] = 255 if number == 2 and stream.below(4) == 0 else stream.below(256)
    halves = [stream.below(0x7C00) for _ in range(sizes["scales"] // 2)]
    return struct.pack(f"<{len(halves)}H", *halves), bytes(codes)


def check_rows(vectors, runs):
    for vector in vectors:
        codec, signs = Codec(vector["codec"]), runs[vector["run"]].signs(vector["epoch"])
        count = vector["coordinates"]
        if "values" in vector:
            scales, codes = compress(codec, row_values(vector["values"], count), signs)
            check("scales of a row", scales.hex(), vector["scales"])
            check("codes of a row", sha256(codes).hex(), vector["codesSha256"])
        else:
            scales, codes = row_bytes(vector["bytes"], codec.sizes(-(-count // BLOCK)))
        rotated = codec.read(scales, codes)
        check("the length of a row", squared_length(rotated, codec.span), vector["squaredLength"])
        values = rotate_back(rotated, signs)[:count]
        check("values of a row", doubles_sha256(values), vector["valuesSha256"])


def check_authors(vectors, runs):
    for vector in vectors:
        run, epoch = runs[vector["run"]], vector["epoch"]
        held, delta = doubles(vector["residual"]), doubles(vector["delta"])
        product, square = 0.0, 0.0
        for e, d in zip(held, delta):
            product, square = product + e * d, square + e * e
        keep = 1 - min(1, max(0, product / square))
        residual = [keep * e + d for e, d in zip(held, delta)]
        scales, codes = compress(run.codec, residual, run.signs(epoch))
        check("scales", scales.hex(), vector["scales"])
        check("codes", codes.hex(), vector["codes"])
        read = rotate_back(run.codec.read(scales, codes), run.signs(epoch))
        residual = [e - value for e, value in zip(residual, read)]
        check("the residual", doubles_sha256(residual), vector["residualAfterSha256"])


def check_updates(vectors, runs):
    for vector in vectors:
        update = read_gossip(runs[vector["run"]], bytes.fromhex(vector["gossip"]))
        check("the update's id", update["id"].hex(), vector["id"])
        check("the author", update["peer"], vector["author"])
        for field in ("epoch", "baseEpoch", "steps"):
            check(field, update[field], vector[field])
        check("values", update["values"][:4], vector["firstValues"])
        check("all values", doubles_sha256(update["values"]), vector["valuesSha256"])


def check_cohorts(vectors, runs):
    for vector in vectors:
        run = runs[vector["run"]]
        for member in vector["cohorts"]:
            check("a cohort", run.cohort(member["peerId"]), member["cohort"])
        for text in vector["updates"]:
            read_gossip(run, bytes.fromhex(text))


def check_messages(vectors, runs):
    run = runs["plain"]
    data = {kind: bytes.fromhex(text) for kind, text in vectors.items()}
    announced = read_header(run, decode("Gossip", data["announcement"])["announcement"])
    for proof in (
        decode("Gossip", data["equivocation"])["equivocation"],
        decode("SyncFrame", data["syncEquivocation"])["equivocation"],
    ):
        first, second = read_header(run, proof["first"]), read_header(run, proof["second"])
        check("the order of a proof", first["id"] < second["id"], True)
        slots = [(header["peer"], header["epoch"]) for header in (first, second)]
        check("the slot of a proof", slots[0], slots[1])
    opening = decode("SyncFrame", data["opening"])["have"]
    check("the run of an opening", [opening["runId"], opening["last"]], [run.id, False])
    have = decode("SyncFrame", data["have"])["have"]
    digests = [peer_id(e["author"]).encode() + e["digest"] for e in have["authors"]]
    check("the digest of the whole log", opening["logDigest"], sha256(*digests))
    check("the run of a have", [have["runId"], have["last"]], [run.id, True])
    held = {peer_id(entry["author"]): bitmap(entry["epochs"]) for entry in have["authors"]}
    check("authors in order", list(held), sorted(held))
    check("epochs held", [held[announced["peer"]], held[first["peer"]]], [[0, 1, 9], [4]])
    digest = [e["digest"] for e in have["authors"] if peer_id(e["author"]) == first["peer"]][0]
    check("an author digest", digest in (sha256(first["id"]), sha256(second["id"])), True)
    evicted = decode("SyncFrame", data["haveEvicted"])["have"]["evicted"]
    named = [(peer_id(entry["author"]), entry["fromEpoch"]) for entry in evicted]
    check("the evicted", named, [(first["peer"], first["epoch"])])
    want = decode("SyncFrame", data["want"])["want"]
    check("epochs wanted", [bitmap(entry["epochs"]) for entry in want["authors"]], [[1, 9]])
    pieces = [decode("SyncFrame", data[kind])["chunk"] for kind in ("chunk", "lastChunk")]
    check("ends of chunks", [piece["last"] for piece in pieces], [False, True])
    whole = decode("Update", b"".join(piece["bytes"] for piece in pieces))
    check("the update in chunks", read_update(run, whole)["id"], announced["id"])
    check("the end", decode("SyncFrame", data["end"])["end"], {})
    body = whole["scales"] + whole["codes"]
    opened = decode("BlobFrame", data["blobOpen"])["open"]
    check("the blob opened", opened, {"runId": run.id, "root": announced["bodyRoot"]})
    offer = decode("BlobFrame", data["blobOffer"])["offer"]
    check("the hashes offered", offer["hashes"], b"".join(chunk_hashes(body)))
    check("the chunks offered", bitmap(offer["held"]), [0])
    check("the chunk wanted", decode("BlobFrame", data["blobWant"])["want"], {"index": 0})
    given = decode("BlobFrame", data["blobChunk"])["chunk"]
    check("the chunk given", given, {"index": 0, "bytes": body})
    check("an absent blob", decode("BlobFrame", data["blobAbsent"])["absent"], {})
    request = decode("IntroduceRequest", data["introduceRequest"])
    check("an introduction", sha256(request["manifest"]), request["runId"])
    response = decode("IntroduceResponse", data["introduceResponse"])["runs"][0]
    check("the introduced", response["peers"][0]["peerId"], first["peer"])
    check("addresses", response["peers"][0]["addresses"], request["addresses"])
    asked = decode("ReachRequest", data["reachRequest"])["ports"]
    answer = decode("ReachResponse", data["reachResponse"])
    check("a reach check", [asked, answer["seen"]], [[4001, 65535], "/ip4/192.0.2.7"])
    check("the ports that answered", [p in asked for p in answer["ports"]], [True])
    signed = decode("Gossip", data["amendment"])["amendment"]
    amendment = decode("Amendment", signed["amendment"])
    check("the canonical amendment", encode("Amendment", amendment), signed["amendment"])
    check("an amendment", [amendment["runId"], amendment["epochsMax"]], [run.id, 50])
    signed_bytes = b"murmurate/amendment/1\n" + signed["amendment"]
    verify(run.manifest["founder"], signed_bytes, signed["signature"])
    amended = decode("SyncFrame", data["haveAmended"])["have"]
    check("the amendment in a have", amended["amendment"], signed)


def check_membership(vector, runs):
    run = runs[vector["run"]]
    gossip = [decode("Gossip", bytes.fromhex(text))["admission"] for text in vector["gossip"]]
    members = Members(run.weights, [read_admission(run, signed) for signed in gossip])
    peers = [peer_id(decode("Admission", signed["admission"])["member"]) for signed in gossip]
    firsts = [members.first_epoch(peer) for peer in dict.fromkeys(peers)]
    check("the members", [first < math.inf for first in firsts], vector["members"])
    check("the first epoch", firsts[0], vector["firstEpoch"])
    check("the admissions digest", members.digest().hex(), vector["admissionsDigest"])
    log = Log(members.digest())
    for text in vector["updates"]:
        update = read_gossip(run, bytes.fromhex(text))
        check("an update of a member", members.first_epoch(update["peer"]) <= update["epoch"], True)
        log.insert(update)
    check("the log digest", log.digest().hex(), vector["logDigest"])
    check("the sum", doubles_sha256(fold(run, log)), vector["sumSha256"])
    have = decode("SyncFrame", bytes.fromhex(vector["opening"]))["have"]
    stated = [have["logDigest"].hex(), have["admissionsDigest"].hex()]
    check("the digests of an opening", stated, [vector["logDigest"], vector["admissionsDigest"]])
    synced = decode("SyncFrame", bytes.fromhex(vector["syncAdmission"]))["admission"]
    check("an admission by sync", synced in gossip, True)
    request = decode("IntroduceRequest", bytes.fromhex(vector["introduceRequest"]))
    response = decode("IntroduceResponse", bytes.fromhex(vector["introduceResponse"]))
    check("shown admissions", [request["admission"], response["admission"]], [gossip[0]] * 2)
    check("a refusal", response["refusal"], 3)
    check_invite(vector, run, decode("Admission", gossip[0]["admission"]))


def check_invite(vector, run, admission):
    data = unbase58(vector["invite"].removeprefix("murmurate1"))
    data, checksum = data[:-4], data[-4:]
    check("the checksum of an invite", sha256(b"murmurate/invite/1\n", data)[:4], checksum)
    invite = decode("Invite", data)
    check("the run of an invite", [invite["runId"], invite["founder"]], [run.id, run.manifest["founder"]])
    check("its invitation", invite["invitation"], admission["invitation"])
    check("its signature", invite["signature"], admission["signature"])
    secrets = [invite["secret"].hex(), invite["swarmKey"].hex()]
    check("its secrets", secrets, [vector["secret"], vector["swarmKey"]])
    check("its addresses", invite["addresses"], ["/ip4/192.0.2.7/tcp/4001"])


def check_blob(vector, _runs):
    data = bytes((i * 7 + (i >> 8)) & 255 for i in range(vector["size"]))
    check("the hashes of a blob", b"".join(chunk_hashes(data)).hex(), vector["hashes"])
    check("the root of a blob", blob_root(chunk_hashes(data)).hex(), vector["root"])


def check_model_files(vector, runs):
    def content(size):
        return bytes((i * 7 + (i >> 8)) & 255 for i in range(size))

    small, large = vector["small"], vector["large"]
    files = [
        {"name": name, "size": size, "parts": [blob_root(chunk_hashes(content(size)))]}
        for name, size in small.items()
    ]
    parts = [blob_root(chunk_hashes(content(size))) for size in (1, 2)]
    check("the parts of a large file", -(-large["size"] // PART), len(parts))
    files.append({**large, "parts": parts})
    catalogue = encode("ModelFiles", {"files": sorted(files, key=lambda file: file["name"])})
    check("the catalogue of a model", catalogue.hex(), vector["bytes"])
    check("its name", [len(catalogue), blob_root(chunk_hashes(catalogue)).hex()], [vector["size"], vector["root"]])
    model = runs["filed"].manifest["model"]
    check("the name in a manifest", [model["filesBytes"], model["filesRoot"].hex()], [vector["size"], vector["root"]])


def to_bitmap(numbers):
    data = bytearray(max(numbers, default=-1) // 8 + 1)
    for number in numbers:
        data[number // 8] |= 1 << number % 8
    return bytes(data)


def bitmap(data):
    return [8 * i + bit for i, byte in enumerate(data) for bit in range(8) if byte >> bit & 1]


def check_folds(vectors, runs):
    for vector in vectors:
        run, log = runs[vector["run"]], Log()
        for text in reversed(vector["gossip"]):
            log.insert(read_gossip(run, bytes.fromhex(text)))
        for key in ("before", "afterEviction"):
            expected = vector[key]
            check("updates", len(log.updates), expected["updates"])
            check("the log digest", log.digest().hex(), expected["logDigest"])
            dropped = {}
            steps = fold(run, log, dropped)
            left_out = [{"epoch": e, "authors": authors} for e, authors in dropped.items()]
            check("whom the filter left out", left_out, expected["dropped"])
            check("the folded adapter", adapter_sha256(theta_of(run, steps)), expected["adapterSha256"])
            check("the sum of steps", doubles_sha256(steps), expected["sumSha256"])
            log.insert(read_gossip(run, bytes.fromhex(vector["forged"])))
        evicted = [{"author": peer, "fromEpoch": epoch} for peer, epoch in log.evicted.items()]
        check("the evicted", evicted, vector["evicted"])


def seal_statement(run, log, epoch, before):
    """The statement of all updates before `epoch`; `before` has the last one, its epoch and the epochs of each author."""
    previous, from_epoch, sealed = before
    slots = sorted(slot for slot in log.updates if from_epoch <= slot[1] < epoch)
    for peer, e in slots:
        sealed.setdefault(peer, []).append(e)
    entries = []
    for peer, epochs in sealed.items():
        ids = b"".join(log.updates[peer, e]["id"] for e in epochs if e >= from_epoch)
        entries.append({"author": public_key(peer), "epochs": to_bitmap(epochs), "ids": ids})
    entries.sort(key=lambda entry: entry["author"])
    contents = encode("SealContents", {"fromEpoch": from_epoch, "authors": entries})
    counted = Log()
    counted.updates = {slot: update for slot, update in log.updates.items() if slot[1] < epoch}
    steps = fold(run, counted)
    total = struct.pack(f"<{len(steps)}d", *steps)
    statement = {
        "version": 1,
        "runId": run.id,
        "epoch": epoch,
        "previous": previous,
        "contentsRoot": blob_root(chunk_hashes(contents)),
        "contentsBytes": len(contents),
        "sumRoot": blob_root(chunk_hashes(total)),
        "updates": sum(map(len, sealed.values())),
    }
    return encode("SealStatement", statement), contents


def read_seal(signed):
    verify(signed["member"], b"murmurate/seal/1\n" + signed["statement"], signed["signature"])
    return peer_id(signed["member"]), decode("SealStatement", signed["statement"])


def check_seals(vectors, runs):
    for vector in vectors:
        run, log = runs[vector["run"]], Log()
        for text in reversed(vector["gossip"]):
            log.insert(read_gossip(run, bytes.fromhex(text)))
        previous, from_epoch, sealed = b"", 0, {}
        for number, expected in enumerate(vector["sealed"], 1):
            epoch = number * run.manifest["fold"]["sealEvery"]
            statement, contents = seal_statement(run, log, epoch, (previous, from_epoch, sealed))
            check("the contents of a seal", contents.hex(), expected["contents"])
            check("a statement", statement.hex(), expected["statement"])
            previous, from_epoch = sha256(statement), epoch
            check("the id of a statement", previous.hex(), expected["id"])
        log.seal(epoch, previous.hex())
        check("the digest of a sealed log", log.digest().hex(), vector["logDigest"])
        data = {kind: bytes.fromhex(vector[kind]) for kind in vector if isinstance(vector[kind], str) and kind != "run"}
        seal = decode("Gossip", data["seal"])["seal"]
        member, _ = read_seal(seal)
        check("what was signed", seal["statement"], statement)
        check("a seal by sync", decode("SyncFrame", data["syncSeal"])["seal"], seal)
        proofs = [
            decode("Gossip", data["sealEquivocation"])["sealEquivocation"],
            decode("SyncFrame", data["syncSealEquivocation"])["sealEquivocation"],
        ]
        check("two ways of one proof", *proofs)
        both = [read_seal(proofs[0][which]) for which in ("first", "second")]
        check("its members and epochs", [(who, what["epoch"]) for who, what in both], [(member, epoch)] * 2)
        names = [sha256(proofs[0][which]["statement"]) for which in ("first", "second")]
        check("its order", names[0] < names[1], True)
        certificate = decode("SyncFrame", data["certificate"])["certificate"]
        check("what a certificate is for", certificate["statement"], statement)
        signers = [read_seal({**certificate, **one})[0] for one in certificate["signatures"]]
        check("the order of signers", signers, sorted(set(signers)))
        weight = sum(run.weights[signer] for signer in signers)
        check("two thirds of the weight", 3 * weight > 2 * sum(run.weights.values()), True)
        have = decode("SyncFrame", data["opening"])["have"]
        check("the seal of an opening", have["sealed"], {"epoch": epoch, "statement": previous})
        check("the log of an opening", have["logDigest"].hex(), vector["logDigest"])
        check("the seals of an opening", have["sealsDigest"], sha256(f"{previous.hex()} {member}\n".encode()))


def main():
    vectors_file, document_file = sys.argv[1:3]
    with open(document_file, encoding="utf-8") as file:
        read_schema(file.read())
    with open(vectors_file, encoding="utf-8") as file:
        vectors = json.load(file)
    runs = {name: Run(bytes.fromhex(run["manifest"])) for name, run in vectors["runs"].items()}
    sections = {
        "peerIds": check_peer_ids,
        "prng": check_prng,
        "halves": check_halves,
        "runs": check_runs,
        "formats": check_formats,
        "rows": check_rows,
        "authors": check_authors,
        "updates": check_updates,
        "cohorts": check_cohorts,
        "blob": check_blob,
        "modelFiles": check_model_files,
        "messages": check_messages,
        "membership": check_membership,
        "seals": check_seals,
        "folds": check_folds,
    }
    check("the sections", sorted(vectors), sorted(sections))
    for name, checker in sections.items():
        checker(vectors[name], runs)
        print(f"agrees: {name}")
    print("signatures: " + ("verified" if Ed25519PublicKey else "not checked, no cryptography"))


if __name__ == "__main__":
    main()
