#include "core/storage.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace sinew {
namespace {

#if !defined(__SANITIZE_ADDRESS__)

constexpr size_t kBlock = size_t{192} << 20;

// Fresh pages from the system read as zero, a kept block as it was left.
bool holds(const Storage* storage, int value) {
  const auto* bytes = static_cast<const unsigned char*>(storage->data());
  return bytes[kBlock / 2] == value;
}

TEST(Storage, AsMuchIsKeptAsWasInUse) {
  std::vector<Storage*> blocks;
  for (int i = 0; i < 5; ++i) {
    blocks.push_back(Storage::allocate(kBlock, Device::cpu));
    static_cast<unsigned char*>(blocks.back()->data())[kBlock / 2] = 77;
  }
  for (Storage* block : blocks) block->release();
  for (Storage*& block : blocks) block = Storage::allocate(kBlock, Device::cpu);
  for (Storage* block : blocks) EXPECT_TRUE(holds(block, 77));
  for (Storage* block : blocks) block->release();
}

TEST(Storage, OtherSizesPushOutWhatIsKept) {
  std::vector<Storage*> blocks;
  for (int i = 0; i < 5; ++i) {
    blocks.push_back(Storage::allocate(kBlock, Device::cpu));
    static_cast<unsigned char*>(blocks.back()->data())[kBlock / 2] = 77;
  }
  for (Storage* block : blocks) block->release();
  for (Storage*& block : blocks) block = Storage::allocate(2 * kBlock, Device::cpu);
  Storage* again = Storage::allocate(kBlock, Device::cpu);
  for (int i = 0; i < 5; ++i) {
    blocks.push_back(Storage::allocate(kBlock, Device::cpu));
    if (!holds(blocks.back(), 77)) break;
  }
  EXPECT_FALSE(holds(blocks.back(), 77)) << "five blocks were kept beside twice their size in use";
  for (Storage* block : blocks) block->release();
  again->release();
}

TEST(Storage, ReleasedMemoryIsReused) {
  Storage* a = Storage::allocate(1000, Device::cpu);
  const void* data = a->data();
  a->release();
  Storage* b = Storage::allocate(990, Device::cpu);
  EXPECT_EQ(b->data(), data);
  b->release();
}

#endif

}  // namespace
}  // namespace sinew
