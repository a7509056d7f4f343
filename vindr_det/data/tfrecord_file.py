"""TFRecord files, read without TensorFlow: their framing, checked, and the ``tf.train.Example`` in each.

A record is its length (8 bytes), the masked CRC-32C of these, its bytes, and the masked CRC-32C of those.
Of the readers on the package index ``tfrecord`` does not check them, and TensorBoard's ``PyRecordReader_New``
stays at the first damaged record and tells no offset; so the framing is read here, with TensorBoard's
checksum.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError, one_line
from vindr_det.files import existing_file

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_HEAD = _LENGTH.size + _CHECKSUM.size
_GZIP = b"\x1f\x8b"
# The messages of tensorflow/core/example/{feature,example}.proto that hold bytes and integers.
_PROTO = """
name: "vindr_det_example.proto" package: "vindr_det" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature"
  oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE oneof_index: 0
          type_name: ".vindr_det.BytesList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE oneof_index: 0
          type_name: ".vindr_det.Int64List" } }
message_type { name: "Features"
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE
            type_name: ".vindr_det.Feature" } }
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE
          type_name: ".vindr_det.Features.FeatureEntry" } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE
          type_name: ".vindr_det.Features" } }
"""


@dataclass(frozen=True)
class RawRecord:
    """A record as it lies in its file.

    Attributes:
        file: the file.
        number: from 1 on.
        offset: of its first byte in the file.
        data: its bytes; empty where they are damaged.
        problem: what is damaged; empty if nothing is.
    """

    file: Path
    number: int
    offset: int
    data: bytes = b""
    problem: str = ""

    def __str__(self) -> str:
        """Names the record in errors."""
        return f"{self.file}, record {self.number} at byte {self.offset}"


def read_records(path: str | Path) -> Iterator[RawRecord]:
    """All records of an uncompressed TFRecord file; a damaged one is a record with a ``problem``.

    Where a record is damaged or cut, the records go on at the next place that is a length with its checksum.

    Raises:
        InputError: the file is missing, or a folder.
    """
    path = existing_file(path)
    content = path.read_bytes()
    offset = number = 0
    if content.startswith(_GZIP) and not _is_head(content[:_HEAD]):
        yield RawRecord(path, 1, 0, problem="is compressed with gzip, expected it decompressed (gunzip)")
        return
    while offset < len(content):
        number += 1
        data, problem, end = _record_at(content, offset)
        yield RawRecord(path, number, offset, data, problem)
        offset = end


def reread(record: RawRecord) -> RawRecord:
    """The same record with its bytes, of a record that was read without damage."""
    with record.file.open("rb") as file:
        file.seek(record.offset)
        length = _LENGTH.unpack_from(file.read(_HEAD))[0]
        return replace(record, data=file.read(length))


def _record_at(content: bytes, offset: int) -> tuple[bytes, str, int]:
    """The bytes of a record, what is damaged, and where the next record begins."""
    head = content[offset : offset + _HEAD]
    if not _is_head(head):
        return b"", "its length does not have its checksum", _next_head(content, offset + 1)
    start = offset + _HEAD
    end = start + _LENGTH.unpack_from(head)[0]
    data, checksum = content[start:end], content[end : end + _CHECKSUM.size]
    if len(checksum) < _CHECKSUM.size:
        return b"", "the file ends within it", _next_head(content, start)
    if _CHECKSUM.unpack(checksum)[0] != _masked_crc32c(data):  # changed, or cut and the next ones behind it
        following = min(end + _CHECKSUM.size, _next_head(content, start))
        return b"", "its data do not have their checksum", following
    return data, "", end + _CHECKSUM.size


def _is_head(head: bytes) -> bool:
    known = _CHECKSUM.unpack_from(head, _LENGTH.size)[0] if len(head) == _HEAD else None
    return known == _masked_crc32c(head[: _LENGTH.size])


def _next_head(content: bytes, offset: int) -> int:
    """Where the next length with its checksum is; records have less than 4 GiB, so four bytes of it are 0."""
    while (zeros := content.find(b"\0\0\0\0", offset + 4)) >= 0:
        offset = zeros - 4
        if _is_head(content[offset : offset + _HEAD]):
            return offset
        offset += 1
    return len(content)


def _masked_crc32c(data: bytes) -> int:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    return masked_crc32c(data)


def features_of(record: RawRecord) -> Mapping[str, bytes | int]:
    """Name -> value of the features of an Example that hold a single value of bytes or an integer.

    Raises:
        InputError: the record is damaged, or is no Example.
    """
    from google.protobuf.message import DecodeError

    if record.problem:
        raise InputError(f"{record}: {record.problem}")
    try:
        example = _example_class().FromString(record.data)
    except DecodeError as error:
        raise InputError(f"{record}: is no tf.train.Example ({one_line(error)})") from error
    values = {name: [*feature.bytes_list.value, *feature.int64_list.value]
              for name, feature in example.features.feature.items()}
    return {name: value[0] for name, value in values.items() if len(value) == 1}


@cache
def _example_class() -> Any:
    """The message class; protobuf's own pool, so that TensorFlow's of the same process is left alone."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    file = text_format.Parse(_PROTO, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("vindr_det.Example"))
