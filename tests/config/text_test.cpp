#include "core/text.h"

#include <gtest/gtest.h>

#include <vector>

namespace kvstow {
namespace {

TEST(NearestName, FindsWhatWasMeant) {
  const std::vector<std::string> keys = {"name", "rate_per_s", "duration_s", "pool_bytes",
                                         "systems"};
  EXPECT_EQ(nearest_name("rate", keys), "rate_per_s");
  EXPECT_EQ(nearest_name("duration_min", keys), "duration_s");
  EXPECT_EQ(nearest_name("pool_gb", keys), "pool_bytes");
  EXPECT_EQ(nearest_name("sytems", keys), "systems");
  const std::vector<std::string> systems = {"vllm", "orca-max", "orca-pow2", "orca-oracle"};
  EXPECT_EQ(nearest_name("vlm", systems), "vllm");
  EXPECT_EQ(nearest_name("orca-orcale", systems), "orca-oracle");
}

TEST(NearestName, IsEmptyWithoutCandidates) {
  EXPECT_EQ(nearest_name("x", {}), "");
}

TEST(Format, BytesAreExactWhenSmallAndBinaryWhenLarge) {
  EXPECT_EQ(format_bytes(819200), "819,200 B");
  EXPECT_EQ(format_bytes(13107200), "12.5 MiB");
  EXPECT_EQ(format_bytes(12884377600), "12 GiB");
}

TEST(Format, CountsAndSeconds) {
  EXPECT_EQ(format_count(12884377600), "12,884,377,600");
  EXPECT_EQ(format_count(-1234), "-1,234");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_seconds(0.85), "850 ms");
  EXPECT_EQ(format_seconds(12.34), "12.3 s");
  EXPECT_EQ(format_seconds(125), "2 min 05 s");
  EXPECT_EQ(format_seconds(3720), "1 h 02 min");
}

}  // namespace
}  // namespace kvstow
