#!/usr/bin/env python3
"""Read a log backup (TiKV's log backup format) and verify every byte of it.

An independent check of logtide's writer: it shares nothing with the crate `format`, has its own reader of protobuf,
of memcomparable keys, of zstd's frames and its own CRC-64, and needs nothing but Python 3.8 and, for compressed
backups, the `zstd` command (or the module `zstandard`, or Python 3.14).

    read_backup.py STORAGE_DIR [--expect FILE] [--json] [--no-orphans]

It verifies names, every protobuf field, offsets, lengths, checksums and records, and that no value is missing. It
prints what it counted, names each mistake on stderr, and exits 1 if there is one (2 if it cannot run).
"""
import argparse
import datetime
import hashlib
import json
import os
import re
import struct
import subprocess
import sys

# ---------------------------------------------------------------------------------------------------------- mistakes


class Report:
    """What is wrong, and what was counted."""

    def __init__(self):
        self.mistakes = []
        self.counts = dict.fromkeys(
            "metadata_objects empty_flushes data_objects schema_objects logical_files encrypted_files records "
            "write_puts write_deletes default_puts default_deletes checkpoints orphans other_objects stored_bytes "
            "plain_bytes expected".split(), 0)
        self.min_ts = self.max_ts = None
        self.stores = set()
        self.regions = set()
        self.tables = set()

    def wrong(self, place, what):
        self.mistakes.append("%s: %s" % (place, what))

    def equal(self, place, field, said, found):
        if said != found:
            self.wrong(place, "%s is %s, should be %s" % (field, show(said), show(found)))


def show(value):
    return value.hex() or "empty" if isinstance(value, bytes) else str(value)


def give_up(text):
    print("read_backup.py: " + text, file=sys.stderr)
    raise SystemExit(2)


class Malformed(Exception):
    """Bytes that cannot be read any further."""


# ---------------------------------------------------------------------------------------------------------- protobuf

# Message -> field number -> (name, kind); a kind in brackets is repeated. kvproto brpb.proto, encryptionpb.proto.
EPOCH = {1: ("conf_ver", "uint"), 2: ("version", "uint")}
ENTRY = {1: ("key", "str"), 2: ("value", "bytes")}
CONTENT = {1: ("metadata", [ENTRY]), 2: ("content", "bytes")}
MASTER = {1: ("data_key_encrypted_content", [CONTENT])}
ENCRYPTION = {1: ("plain_text_data_key", {}), 2: ("master_key_based", MASTER), 3: ("encryption_method", "uint"),
              4: ("file_iv", "bytes"), 5: ("checksum", "bytes")}
FILE = {1: ("sha256", "bytes"), 2: ("path", "str"), 3: ("number_of_entries", "int"), 4: ("min_ts", "uint"),
        5: ("max_ts", "uint"), 6: ("resolved_ts", "uint"), 7: ("region_id", "int"), 8: ("start_key", "bytes"),
        9: ("end_key", "bytes"), 10: ("cf", "str"), 11: ("type", "uint"), 12: ("is_meta", "uint"),
        13: ("table_id", "int"), 14: ("length", "uint"), 15: ("min_begin_ts_in_default_cf", "uint"),
        16: ("range_offset", "uint"), 17: ("range_length", "uint"), 18: ("compression_type", "uint"),
        19: ("crc64xor", "uint"), 20: ("region_start_key", "bytes"), 21: ("region_end_key", "bytes"),
        22: ("region_epoch", [EPOCH]), 23: ("file_encryption_info", ENCRYPTION)}
GROUP = {1: ("path", "str"), 2: ("data_files_info", [FILE]), 3: ("min_ts", "uint"), 4: ("max_ts", "uint"),
         5: ("min_resolved_ts", "uint"), 6: ("length", "uint")}
METADATA = {1: ("files", [FILE]), 2: ("store_id", "int"), 3: ("resolved_ts", "uint"), 4: ("max_ts", "uint"),
            5: ("min_ts", "uint"), 6: ("file_groups", [GROUP]), 7: ("meta_version", "uint")}
DEFAULTS = {"uint": 0, "int": 0, "bytes": b"", "str": ""}


def varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a varint at byte %d is cut or too long" % at)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise Malformed("a varint at byte %d has more than 64 bits" % at)
            return value, at
        shift += 7


def message(data, shape, at=0, end=None):
    """A message as a dict with all of its known fields; anything unknown is an error."""
    end = len(data) if end is None else end
    fields = {}
    for name, kind in shape.values():
        fields[name] = [] if isinstance(kind, list) else None if isinstance(kind, dict) else DEFAULTS[kind]
    while at < end:
        start = at
        tag, at = varint(data, at)
        if tag >> 3 not in shape:
            raise Malformed("unknown field %d at byte %d" % (tag >> 3, start))
        name, kind = shape[tag >> 3]
        scalar = kind in ("uint", "int")
        if tag & 7 != (0 if scalar else 2):
            raise Malformed("field %s at byte %d has wire type %d" % (name, start, tag & 7))
        value, at = varint(data, at)
        if scalar:
            fields[name] = value - (1 << 64) if kind == "int" and value >> 63 else value
            continue
        if at + value > end:
            raise Malformed("field %s at byte %d ends outside of its message" % (name, start))
        content, first, at = data[at:at + value], at, at + value
        if kind == "bytes":
            fields[name] = content
        elif kind == "str":
            fields[name] = content.decode("utf-8")
        elif isinstance(kind, list):
            fields[name].append(message(data, kind[0], first, at))
        else:
            fields[name] = message(data, kind, first, at)
    return fields


# ------------------------------------------------------------------------------------------------------------ CRC-64

POLYNOMIAL = 0xC96C5795D7870F42  # ECMA-182, reflected


def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()
_folds = {}
_zeros = [0xFFFFFFFFFFFFFFFF]


def zeros(length):
    """CRC-64/XZ of so many zero bytes."""
    while len(_zeros) <= length:
        state = _zeros[-1]
        _zeros.append(TABLE[state & 0xFF] ^ state >> 8)
    return _zeros[length] ^ 0xFFFFFFFFFFFFFFFF


def apply(columns, state):
    """A linear map of 64 bits, given by what it does to each bit."""
    result = 0
    for column in columns:
        result ^= column if state & 1 else 0
        state >>= 1
    return result


def fold_tables(distance):
    """What a byte becomes `distance` (a power of two) bytes further on: a table for each of 8 output bytes."""
    if not _folds:
        # The state after one zero byte; after none.
        _folds["step"] = [TABLE[1 << bit] if bit < 8 else 1 << bit - 8 for bit in range(64)]
        _folds["less one"] = [1 << bit for bit in range(64)]
        _folds["reached"] = 1
        _folds[1] = [bytes(entry >> 8 * k & 0xFF for entry in TABLE) for k in range(8)]
    while distance not in _folds:
        step = _folds["step"]
        _folds["less one"] = [apply(step, column) for column in _folds["less one"]]
        _folds["step"] = [apply(step, column) for column in step]
        _folds["reached"] *= 2
        columns = [apply(_folds["less one"], entry) for entry in TABLE]
        _folds[_folds["reached"]] = [bytes(c >> 8 * k & 0xFF for c in columns) for k in range(8)]
    return _folds[distance]


def raw_crc(data):
    """The CRC of bytes with a start value and a final XOR of zero."""
    data += bytes(8)
    while len(data) > 1024:
        half = 1 << ((len(data) - 7) // 2).bit_length() - 1
        head, rest = data[:half], int.from_bytes(data[half:], "little")
        for k, table in enumerate(fold_tables(half)):
            rest ^= int.from_bytes(head.translate(table), "little") << 8 * k
        data = rest.to_bytes(len(data) - half, "little")
    state = 0
    for byte in data[:-8]:
        state = TABLE[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ int.from_bytes(data[-8:], "little")


def crc64(data):
    """CRC-64/XZ."""
    return raw_crc(data) ^ zeros(len(data))


# A CRC is linear: the XOR of the CRCs of many records is the raw CRC of the records XORed together, each aligned at
# its end, XORed with the CRC of as many zero bytes for every record. So one pass of slow Python does for a whole file.


# -------------------------------------------------------------------------------------------------------------- zstd


def frame_length(data, at):
    """Bytes of the zstd frame at `at`, by its header and its blocks (RFC 8878 section 3.1.1)."""
    if data[at:at + 4] != b"\x28\xb5\x2f\xfd":
        raise Malformed("no zstd frame begins at byte %d" % at)
    descriptor = data[at + 4]
    single = descriptor >> 5 & 1
    content_size = (single, 2, 4, 8)[descriptor >> 6]
    block = at + 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content_size
    last = False
    while not last:
        if block + 3 > len(data):
            raise Malformed("the zstd frame at byte %d is cut" % at)
        header = int.from_bytes(data[block:block + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind == 3:
            raise Malformed("a zstd block of a reserved type at byte %d" % block)
        block += 3 + (1 if kind == 1 else size)
    return block + (4 if descriptor >> 2 & 1 else 0) - at


def zstd_decompressor():
    """A function that decompresses concatenated frames."""
    try:
        from compression import zstd  # Python 3.14
        return zstd.decompress
    except ImportError:
        pass
    try:
        import zstandard
        return lambda data: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    except ImportError:
        return zstd_command


def zstd_command(data):
    try:
        done = subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    except FileNotFoundError:
        give_up("the backup is compressed, and there is no zstd: apt-get install zstd")
    if done.returncode:
        raise Malformed("zstd: " + done.stderr.decode("utf-8", "replace").strip())
    return done.stdout


def plain_files(report, path, data, infos, decompress):
    """Plain bytes of each logical file of an object, None where there are none. Frames are decompressed together."""
    together, result = [], []
    for index, info in enumerate(infos):
        stored = data[info["range_offset"]:info["range_offset"] + info["range_length"]]
        place = "%s[%d]" % (path, index)
        if len(stored) != info["range_length"]:
            report.wrong(place, "its range ends outside of the object")
            result.append(None)
        elif info["file_encryption_info"] is not None:
            check_encryption(report, place, info["file_encryption_info"], stored)
            result.append(None)
        elif info["compression_type"] == 0:
            result.append(stored)
        elif check_frame(report, place, stored):
            result.append(len(together))
            together.append((index, stored))
        else:
            result.append(None)
    plain = decompress_together(report, path, together, infos, decompress)
    return [plain[value] if isinstance(value, int) else value for value in result]


def check_frame(report, place, stored):
    try:
        report.equal(place, "range_length (against the zstd frame)", len(stored), frame_length(stored, 0))
        return True
    except (Malformed, IndexError) as e:
        report.wrong(place, e)
        return False


def decompress_together(report, path, frames, infos, decompress):
    if not frames:
        return []
    try:
        plain, at, result = decompress(b"".join(stored for _, stored in frames)), 0, []
        if len(plain) == sum(infos[index]["length"] for index, _ in frames):
            for index, _ in frames:
                result.append(plain[at:at + infos[index]["length"]])
                at += infos[index]["length"]
            return result
    except Exception:  # Whatever the decompressor raises: the loop below finds which frame it is.
        pass
    result = []
    for index, stored in frames:
        try:
            plain = decompress(stored)
            report.equal("%s[%d]" % (path, index), "length", infos[index]["length"], len(plain))
            result.append(plain)
        except Exception as e:
            report.wrong("%s[%d]" % (path, index), "cannot be decompressed: %s" % e)
            result.append(None)
    return result


def check_encryption(report, place, info, stored):
    report.counts["encrypted_files"] += 1
    report.equal(place, "checksum of the encrypted bytes", info["checksum"], hashlib.sha256(stored).digest())
    report.equal(place, "length of file_iv", len(info["file_iv"]), 16)
    if info["encryption_method"] not in (2, 3, 4, 5):
        report.wrong(place, "encryption_method is %d" % info["encryption_method"])
    if (info["plain_text_data_key"] is None) == (info["master_key_based"] is None):
        report.wrong(place, "not one key mode")
    if info["master_key_based"] is not None:
        contents = info["master_key_based"]["data_key_encrypted_content"]
        report.equal(place, "number of encrypted data keys", len(contents), 1)
        for content in contents:
            names = {entry["key"]: len(entry["value"]) for entry in content["metadata"]}
            report.equal(place, "length of the key's iv and tag", (names.get("iv"), names.get("aes_gcm_tag")), (12, 16))


# ----------------------------------------------------------------------------------------------------- keys, records

TS_MAX = 0xFFFFFFFFFFFFFFFF


def memcomparable(data):
    """The user key of an encoded key, which must end with it; None if it is malformed."""
    raw = b""
    for at in range(0, len(data), 9):
        group, marker = data[at:at + 8], data[at + 8] if at + 8 < len(data) else -1
        if marker == 255:
            raw += group
            continue
        pad = 255 - marker
        good = 1 <= pad <= 8 and at + 9 == len(data) and not any(group[8 - pad:])
        return raw + group[:8 - pad] if good else None
    return None


def table_of(key):
    """Table id of an encoded key with ts."""
    raw = memcomparable(key[:-8])
    if raw is None:
        return None
    if raw[:1] != b"t" or len(raw) < 9:
        return 0
    return struct.unpack(">Q", raw[1:9])[0] - (1 << 63)


def well_formed(key, full=b"\xff" * 4096):
    """True for a memcomparable key with ts; as `memcomparable`, but quick."""
    markers = key[8:-8:9]
    count = len(markers)
    if not count or len(key) != 9 * count + 8 or markers[:-1] != full[:count - 1]:
        return count > 4096 and memcomparable(key[:-8]) is not None
    pad = 255 - markers[-1]
    return 1 <= pad <= 8 and key[-9 - pad:-9] == bytes(pad)


def parse_write(value):
    """Kind, start ts and whether there is a short value, of a record of the write column family."""
    kind = value[:1]
    if kind not in (b"P", b"D", b"L", b"R"):
        raise Malformed("unknown write type %r" % kind)
    start_ts, at = varint(value, 1)
    short = False
    while at < len(value):
        flag = value[at:at + 1]
        at += 1
        if flag == b"v":
            short, at = True, at + 1 + (value[at] if at < len(value) else 0)
        elif flag == b"F":
            at += 8
        elif flag == b"l":
            _, at = varint(value, at + 8)
        elif flag == b"S":
            _, at = varint(value, at)
        elif flag != b"R":
            break
        if at > len(value):
            raise Malformed("a write record is cut")
    return kind, start_ts, short


class Values:
    """What must be in the backup, and what is: values of the default column family, and records asked for."""

    def __init__(self, expect):
        self.have = set()
        self.need = {}
        self.expect_path = expect
        self.expected = {}
        if expect:
            with open(expect) as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        self.expected[digest(*expected_record(line, number))] = number
        self.found = set()

    def check(self, report, complete):
        report.counts["expected"] = len(self.expected)
        if not complete:
            return
        for key, place in self.need.items():
            if key not in self.have:
                report.wrong(place, "the value of a write record is nowhere in the backup: default key %s" % key.hex())
        missing = {number for record, number in self.expected.items() if record not in self.found}
        if missing:
            with open(self.expect_path) as lines:
                for number, line in enumerate(lines, 1):
                    if number in missing:
                        cf, key, value, kind = expected_record(line, number)
                        report.wrong("%s:%d" % (self.expect_path, number), "not in the backup: %s %s %s (value of %d bytes)"
                                     % ("put" if kind else "delete", cf, key.hex(), len(value)))


def expected_record(line, number):
    parts = line.rstrip("\r\n").split("\t")
    try:
        cf, key, value = parts[:3]
        kind = {"Put": 1, "Delete": 0}[parts[3]] if len(parts) > 3 else 1
        return cf, bytes.fromhex(key), bytes.fromhex(value), kind
    except (ValueError, KeyError):
        give_up("line %d of the expected records is not 'cf<TAB>key<TAB>value[<TAB>Put|Delete]' in hex" % number)


def digest(cf, key, value, kind):
    head = b"%s %d %d " % (cf.encode(), kind, len(key))
    return hashlib.blake2b(head + key + value, digest_size=16).digest()


def check_records(report, place, info, plain, values):
    """One pass over the records of a logical file against all that its metadata says of them."""
    cf, put = info["cf"], info["type"] == 1
    writes, at, end, entries, xored, odd = cf == "write", 0, len(plain), 0, 0, {}
    first = last = None
    min_inverted, max_inverted, min_begin = TS_MAX, 0, None
    tables = {}
    length_at = struct.Struct("<I").unpack_from
    from_bytes = int.from_bytes
    keys = [] if values.expected else None
    while at < end:
        try:
            value_at = at + 4 + length_at(plain, at)[0]
            key = plain[at + 4:value_at]
            next_at = value_at + 4 + length_at(plain, value_at)[0]
        except struct.error:
            report.wrong(place, "the record at plain byte %d is cut" % at)
            return
        value = plain[value_at + 4:next_at]
        if next_at > end:
            report.wrong(place, "the record at plain byte %d ends outside" % at)
            return
        if not well_formed(key):
            report.wrong(place, "the key at plain byte %d is not memcomparable with a ts: %s" % (at, key.hex()))
            return
        entries += 1
        both = key + value
        xored ^= from_bytes(both, "big")
        odd[len(both)] = not odd.get(len(both), False)
        inverted = from_bytes(key[-8:], "big")
        min_inverted = inverted if inverted < min_inverted else min_inverted
        max_inverted = inverted if inverted > max_inverted else max_inverted
        first = key if first is None or key < first else first
        last = key if last is None or key > last else last
        if key[:18] not in tables:
            tables[key[:18]] = (key[0] == 0x6D, 0 if key[0] == 0x6D else table_of(key))
        if not put and value:
            report.wrong(place, "the delete at plain byte %d has a value" % at)
        if writes and value:
            try:
                kind, start_ts, short = parse_write(value)
            except Malformed as e:
                report.wrong(place, "the value at plain byte %d: %s" % (at, e))
                return
            min_begin = start_ts if min_begin is None or start_ts < min_begin else min_begin
            if kind == b"P" and not short and put:
                values.need[key[:-8] + (TS_MAX - start_ts).to_bytes(8, "big")] = place
        elif writes and put:
            report.wrong(place, "the write record at plain byte %d has no value" % at)
        elif put and cf == "default":
            values.have.add(key)
        if keys is not None:
            keys.append(digest(cf, key, value, info["type"]))
        at = next_at
    if keys:
        values.found.update(k for k in keys if k in values.expected)
    compare(report, place, info, entries, xored, odd, first, last, TS_MAX - max_inverted, TS_MAX - min_inverted,
            min_begin, tables)


def compare(report, place, info, entries, xored, odd, first, last, min_ts, max_ts, min_begin, tables):
    if not entries:
        return report.wrong(place, "it has no records")
    crc = raw_crc(xored.to_bytes(max(odd), "big"))
    for length, is_odd in odd.items():
        crc ^= zeros(length) if is_odd else 0
    for field, found in (
            ("number_of_entries", entries), ("crc64xor", crc), ("min_ts", min_ts), ("max_ts", max_ts),
            ("start_key", first), ("end_key", last),
            ("min_begin_ts_in_default_cf", min_ts if min_begin is None else min_begin)):
        report.equal(place, field, info[field], found)
    for is_meta, table in set(tables.values()):
        report.equal(place, "is_meta", bool(info["is_meta"]), is_meta)
        report.equal(place, "table_id", info["table_id"], table)
    report.counts["records"] += entries
    if info["cf"] in ("default", "write"):
        report.counts["%s_%s" % (info["cf"], "puts" if info["type"] else "deletes")] += entries
    report.min_ts = min_ts if report.min_ts is None else min(report.min_ts, min_ts)
    report.max_ts = max_ts if report.max_ts is None else max(report.max_ts, max_ts)


# ------------------------------------------------------------------------------------------------------------- names

DATA_NAME = re.compile(r"v1/(\d{8})/(\d{2})/(\d+)/(schema-meta/)?(\d+)-"
                       r"([0-9a-f]{8}-[0-9a-f]{4}-[48][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})\.log")
META_NAME = re.compile(r"v1/backupmeta/([0-9A-F]{16})([0-9A-F]{16})-((?:[0-9a-zA-Z][0-9A-F]{16})+)\.meta")
CHECKPOINT_NAME = re.compile(r"v1/global_checkpoint/(\d+)\.ts")


def check_meta_name(report, path, data, meta):
    """The name against the content; the tags that it has."""
    match = META_NAME.fullmatch(path)
    if not match:
        report.wrong(path, "no name of a metadata object")
        return {}
    report.equal(path, "store id of the name", int(match[2], 16), meta["store_id"])
    order = match[3][::17]
    tags = {match[3][at]: int(match[3][at + 1:at + 17], 16) for at in range(0, len(match[3]), 17)}
    # logtide's: boot and generation; checksum of the body, and the generation before with its smallest and largest ts; of
    # how many generations it is, if those were merged.
    report.equal(path, "tags of the name", order,
                 {4: "dlup", 6: "dlupbg", 11: "dlupbgkcxyn"}.get(len(order), "dlupbgkcxy"))
    if "k" in tags:
        report.equal(path, "checksum in the name", tags["k"], crc64(data))
    files = [info for group in meta["file_groups"] for info in group["data_files_info"]]
    no_schema = not any(info["is_meta"] for info in files)
    for tag, found in (
            ("d", min((info["min_begin_ts_in_default_cf"] for info in files), default=0)),
            ("l", meta["min_ts"]), ("u", meta["max_ts"]), ("p", no_schema + 2 * (not meta["file_groups"]))):
        report.equal(path, "tag %s of the name" % tag, tags.get(tag), found)
    return tags


def check_data_name(report, path, group, meta, tags):
    match = DATA_NAME.fullmatch(path)
    if not match:
        report.wrong(path, "no name of a data object")
        return False
    hour = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=group["max_ts"] >> 18)
    report.equal(path, "date and hour of the name", (match[1], match[2]), (hour.strftime("%Y%m%d"), hour.strftime("%H")))
    report.equal(path, "store id of the name", int(match[3]), meta["store_id"])
    report.equal(path, "min_ts of the name", int(match[5]), group["min_ts"])
    schema = {bool(info["is_meta"]) for info in group["data_files_info"]}
    report.equal(path, "is_meta of its files", schema, {bool(match[4])})
    if match[6][14] == "8":
        # Ours: 40 bits of boot epoch, 50 of generation, 32 of index, around version and variant.
        bits = int(match[6].replace("-", ""), 16)
        free = bits >> 80 << 74 | (bits >> 64 & 0xFFF) << 62 | bits & (1 << 62) - 1
        boot, generation = free >> 82, free >> 32 & (1 << 50) - 1
        report.equal(path, "boot of the name", boot, tags.get("b"))
        if "n" not in tags:
            report.equal(path, "generation of the name", generation, tags.get("g"))
        elif not tags["c"] < generation <= tags["g"]:
            report.wrong(path, "generation %d is none of those that were merged" % generation)
    return True


# ------------------------------------------------------------------------------------------------------------ backup


def check_info(report, place, info, offset):
    """Fields of a logical file that need no records."""
    for field, found in (("range_offset", offset), ("path", ""), ("length of sha256", 32)):
        said = len(info["sha256"]) if field.startswith("length") else info[field]
        report.equal(place, field, said, found)
    for field, good in (("cf", ("default", "write")), ("type", (0, 1)), ("is_meta", (0, 1)), ("compression_type", (0, 3))):
        if info[field] not in good:
            report.wrong(place, "%s is %s, should be one of %s" % (field, info[field], good))
    if info["region_id"] <= 0:
        report.wrong(place, "region_id is %d" % info["region_id"])
    if info["compression_type"] == 0:
        report.equal(place, "range_length of plain data", info["range_length"], info["length"])
    start, end, epochs = info["region_start_key"], info["region_end_key"], info["region_epoch"]
    if end and start >= end:
        report.wrong(place, "the region's range is empty: %s to %s" % (start.hex(), end.hex()))
    if (start or end) and not epochs:
        report.wrong(place, "a region range without epoch")
    if any(not epoch["version"] for epoch in epochs):
        report.wrong(place, "a region epoch without version")
    report.regions.add(info["region_id"])
    report.tables.add(info["table_id"])


def check_group(report, root, group, meta, tags, values, decompress):
    path, infos = group["path"], group["data_files_info"]
    if not check_data_name(report, path, group, meta, tags):
        return None
    report.counts["schema_objects" if "/schema-meta/" in path else "data_objects"] += 1
    if not infos:
        return report.wrong(path, "a data object without logical files")
    for field, found in (
            ("min_ts", min(i["min_ts"] for i in infos)), ("max_ts", max(i["max_ts"] for i in infos)),
            ("min_resolved_ts", min(i["resolved_ts"] for i in infos)), ("length", sum(i["range_length"] for i in infos))):
        report.equal(path, field + " of the group", group[field], found)
    offset = 0
    for index, info in enumerate(infos):
        check_info(report, "%s[%d]" % (path, index), info, offset)
        offset += info["range_length"]
    try:
        with open(os.path.join(root, path), "rb") as file:
            data = file.read()
    except (OSError, ValueError) as e:
        return report.wrong(path, "cannot be read: %s" % e)
    report.equal(path, "length of the object", len(data), group["length"])
    report.counts["stored_bytes"] += len(data)
    for index, (info, plain) in enumerate(zip(infos, plain_files(report, path, data, infos, decompress))):
        report.counts["logical_files"] += 1
        if plain is not None:
            place = "%s[%d]" % (path, index)
            report.counts["plain_bytes"] += len(plain)
            report.equal(place, "length", info["length"], len(plain))
            report.equal(place, "sha256", info["sha256"], hashlib.sha256(plain).digest())
            check_records(report, place, info, plain, values)


def check_metadata(report, root, path, values, decompress, seen):
    with open(os.path.join(root, path), "rb") as file:
        data = file.read()
    report.counts["metadata_objects"] += 1
    try:
        meta = message(data, METADATA)
    except (Malformed, UnicodeDecodeError) as e:
        return report.wrong(path, e)
    tags = check_meta_name(report, path, data, meta)
    groups = meta["file_groups"]
    report.counts["empty_flushes"] += not groups
    report.stores.add(meta["store_id"])
    for field, found in (
            ("meta_version", 1), ("files", []), ("min_ts", min((g["min_ts"] for g in groups), default=0)),
            ("max_ts", max((g["max_ts"] for g in groups), default=0))):
        report.equal(path, field, meta[field], found)
    if meta["resolved_ts"] < min((g["min_resolved_ts"] for g in groups), default=1):
        report.wrong(path, "resolved_ts is %d" % meta["resolved_ts"])
    for group in groups:
        if group["path"] in seen:
            report.wrong(group["path"], "is in two metadata objects: %s and %s" % (seen[group["path"]], path))
        seen[group["path"]] = path
        check_group(report, root, group, meta, tags, values, decompress)


def check_backup(root, expect, no_orphans):
    report, values, seen, objects = Report(), Values(expect), {}, []
    for folder, _, files in os.walk(root):
        objects += (os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/") for name in files)
    decompress = zstd_decompressor()
    for path in sorted(objects):
        if path.startswith("v1/backupmeta/"):
            check_metadata(report, root, path, values, decompress, seen)
    for path in sorted(objects):
        if CHECKPOINT_NAME.fullmatch(path):
            report.counts["checkpoints"] += 1
            with open(os.path.join(root, path), "rb") as file:
                content = file.read()
            if len(content) != 8 or content == bytes(8):
                report.wrong(path, "a checkpoint is 8 bytes, this is %s" % show(content))
        elif path.endswith(".log") and path not in seen:
            report.counts["orphans"] += 1
            if no_orphans:
                report.wrong(path, "no metadata object refers to it")
        elif not path.startswith("v1/backupmeta/") and path not in seen:
            report.counts["other_objects"] += 1
    if not report.counts["metadata_objects"]:
        report.wrong(root, "no metadata objects under v1/backupmeta")
    values.check(report, complete=not report.counts["encrypted_files"])
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("storage", help="the directory that the backup is in (with v1/backupmeta)")
    parser.add_argument("--expect", metavar="FILE",
                        help="records that must be in it, a line each: cf, key, value (hex, tabs between)[, Put or Delete]")
    parser.add_argument("--no-orphans", action="store_true", help="data objects without metadata are mistakes")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    args = parser.parse_args()
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA and crc64(bytes(range(256)) * 64) == slow_crc64(bytes(range(256)) * 64)
    if not os.path.isdir(args.storage):
        give_up("%s is no directory" % args.storage)
    report = check_backup(args.storage, args.expect, args.no_orphans)
    for mistake in report.mistakes[:200]:
        print("mistake: " + mistake, file=sys.stderr)
    if len(report.mistakes) > 200:
        print("... and %d more" % (len(report.mistakes) - 200), file=sys.stderr)
    facts = dict(report.counts, stores=len(report.stores), regions=len(report.regions), tables=len(report.tables),
                 min_ts=report.min_ts, max_ts=report.max_ts, mistakes=len(report.mistakes))
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print("%-18s %s" % (name.replace("_", " "), value))
    return 1 if report.mistakes else 0


def slow_crc64(data):
    state = TS_MAX
    for byte in data:
        state = TABLE[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ TS_MAX


if __name__ == "__main__":
    sys.exit(main())
