"""Safetensors files (https://huggingface.co/docs/safetensors) of PyTorch tensors, in a few lines."""
import json
import struct

import torch

TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
NAMES = {dtype: name for name, dtype in TYPES.items()}


def write(path, tensors):
    header, data = {}, bytearray()
    for name, tensor in tensors.items():
        begin = len(data)
        data += bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read(path):
    with open(path, "rb") as file:
        content = bytearray(file.read())
    begin = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        dtype, (first, last) = TYPES[entry["dtype"]], entry["data_offsets"]
        # frombuffer wants the right alignment, which a copy has
        part = torch.frombuffer(bytearray(content[begin + first : begin + last]), dtype=dtype)
        tensors[name] = part.reshape(entry["shape"])
    return tensors
