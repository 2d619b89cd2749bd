// Which beams die where no logits say so, at the two ends; in between Fig. 15 holds it.
#include "core/exec/beam_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kvstow {
namespace {

std::vector<std::pair<SeqId, SeqId>> forks(double death) {
  const Request request{.id = RequestId(1), .prompt = Tokens(4), .output = Tokens(9)};
  const std::vector<SeqId> beams{SeqId(5), SeqId(6), SeqId(7)};
  std::vector<TokenOut> out;
  make_death_and_refork(death, 1)->step({&request, beams, Tokens(4), Tokens(1), false}, out);
  std::vector<std::pair<SeqId, SeqId>> forks;
  for (const TokenOut& token : out) forks.emplace_back(token.parent, token.sequence);
  return forks;
}

TEST(BeamModel, WhereAllWouldDieTheFirstLives) {
  EXPECT_THAT(forks(1),
              testing::ElementsAre(std::pair(SeqId(5), SeqId(6)), std::pair(SeqId(5), SeqId(7))));
}

TEST(BeamModel, WhereNobodyDiesNobodyIsForked) {
  EXPECT_THAT(forks(0), testing::IsEmpty());
}

}  // namespace
}  // namespace kvstow
