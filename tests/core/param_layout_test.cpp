#include "core/param_layout.h"

#include <gtest/gtest.h>

#include <set>

namespace sinew {
namespace {

ParamLayout two_layers() {
  ParamLayout layout;
  layout.add("fc1.weight", {3, 5});
  layout.add("fc1.bias", {3});
  layout.add("fc2.weight", {2, 16});
  return layout;
}

TEST(ParamLayout, PlacesSegmentsInOrderOnAlignedOffsets) {
  ParamLayout layout = two_layers();
  ASSERT_EQ(layout.segments().size(), 3u);
  EXPECT_EQ(layout.segments()[0].offset, 0);
  EXPECT_EQ(layout.segments()[1].offset, 16);  // 15 elements and one of padding
  EXPECT_EQ(layout.segments()[2].offset, 32);
  EXPECT_EQ(layout.segments()[2].numel, 32);
  EXPECT_EQ(layout.size(), 64);
  EXPECT_EQ(layout.parameter_count(), 15 + 3 + 32);
  int64_t end = 0;
  for (const Segment& s : layout.segments()) {
    EXPECT_EQ(s.offset % ParamLayout::kAlignment, 0) << s.name;
    EXPECT_GE(s.offset, end) << s.name;
    end = s.offset + s.numel;
  }
  EXPECT_GE(layout.size(), end);
}

TEST(ParamLayout, EmptyLayoutHasNoElements) {
  ParamLayout layout;
  EXPECT_EQ(layout.size(), 0);
  EXPECT_EQ(layout.parameter_count(), 0);
  EXPECT_EQ(layout.find("x"), -1);
}

TEST(ParamLayout, FindsByName) {
  ParamLayout layout = two_layers();
  EXPECT_EQ(layout.find("fc1.bias"), 1);
  EXPECT_EQ(layout.find("fc1"), -1);
  EXPECT_EQ(layout.find(""), -1);
}

TEST(ParamLayout, RefusesDuplicateAndEmptyNamesAndStaysAsItWas) {
  ParamLayout layout = two_layers();
  EXPECT_THROW(layout.add("fc1.bias", {7}), Error);
  EXPECT_THROW(layout.add("", {7}), Error);
  EXPECT_EQ(layout.segments().size(), 3u);
  EXPECT_EQ(layout.fingerprint(), two_layers().fingerprint());
}

TEST(ParamLayout, FingerprintSeesNamesShapesAndOrder) {
  std::set<uint64_t> seen{two_layers().fingerprint(), ParamLayout().fingerprint()};
  auto differs = [&](auto build) {
    ParamLayout layout;
    build(layout);
    return seen.insert(layout.fingerprint()).second;
  };
  EXPECT_TRUE(differs([](ParamLayout& l) { l.add("fc1.weight", {3, 5}), l.add("fc1.bias", {3}); }));
  EXPECT_TRUE(differs([](ParamLayout& l) { l.add("fc1.bias", {3}), l.add("fc1.weight", {3, 5}); }));
  EXPECT_TRUE(differs([](ParamLayout& l) { l.add("fc1.weight", {5, 3}), l.add("fc1.bias", {3}); }));
  EXPECT_TRUE(differs([](ParamLayout& l) { l.add("fc1.weight", {15}), l.add("fc1.bias", {3}); }));
  EXPECT_TRUE(differs([](ParamLayout& l) { l.add("fc1.weigh", {3, 5}), l.add("fc1.tbias", {3}); }));
  EXPECT_TRUE(differs([](ParamLayout& l) { l.add("a", {}); }));
  EXPECT_TRUE(differs([](ParamLayout& l) { l.add("a", {1}); }));
}

// The value is exchanged between machines and versions: a change of the canonical form must be on purpose.
// Computed independently in Python from the documented bytes.
TEST(ParamLayout, FingerprintIsFixed) {
  ParamLayout layout;
  layout.add("w", {2, 3});
  EXPECT_EQ(layout.fingerprint(), 0xe1f5387da8e14c05u);
}

}  // namespace
}  // namespace sinew
