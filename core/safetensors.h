// Reading and writing safetensors files: u64 little-endian header length, a JSON header
// {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {...}}, raw little-endian data.
// Format: https://huggingface.co/docs/safetensors (types F32, F64, I32, I64, U8).
//
// The header is hostile input: lengths, offsets, shapes and types are checked before anything is allocated, and
// every defect is one Status (data_error) that names the file, the tensor and what is wrong.
//
// Thread safety: free functions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "core/status.h"

namespace sinew {

struct NamedArray {
  DType dtype = DType::f32;
  Shape shape;
  std::vector<std::byte> bytes;  // row-major, little-endian, numel * size_of(dtype)
};

struct SafetensorsFile {
  std::map<std::string, NamedArray> tensors;
  std::map<std::string, std::string> metadata;
};

Result<SafetensorsFile> read_safetensors(const std::string& path);
// Parses a whole file's bytes; `name` is for messages. The fuzz target.
Result<SafetensorsFile> parse_safetensors(const std::byte* data, size_t size, const std::string& name);
// Writes to path + ".tmp", then renames: a reader sees the old file or the new one.
Status write_safetensors(const std::string& path, const SafetensorsFile& file);

}  // namespace sinew
