// One request of a trace, as every part of the laboratory sees it.
#pragma once

#include <optional>
#include <vector>

#include "core/types.h"

namespace kvstow {

enum class DecodingKind : std::uint8_t {
  single,    // one output sequence (greedy or sampled)
  parallel,  // `width` samples of one prompt
  beam,      // beam search of `width`
};

struct Decoding {
  DecodingKind kind = DecodingKind::single;
  int width = 1;  // sequences of the group, >= 1; 1 for single

  friend bool operator==(const Decoding&, const Decoding&) = default;
};

struct Request {
  RequestId id;         // position in the trace
  Seconds arrival = 0;  // since the start of the run
  Tokens prompt{0};     // > 0; includes the shared prefix
  Tokens output{0};     // > 0; every sequence of the group runs to this length
  Decoding decoding;
  PrefixId prefix;            // none: nothing shared with other requests
  Tokens prefix_tokens{0};    // leading prompt tokens that are the prefix
  std::uint32_t session = 0;  // conversation, where the trace knows one; 0 = none
  std::vector<std::uint64_t>
      block_hashes;  // content keys of prompt blocks, where the trace has them
};

// The next request of a workload. Arrivals are non-decreasing; ids count up from 0.
class TraceSource {
 public:
  virtual ~TraceSource() = default;
  [[nodiscard]] virtual std::optional<Request> next() = 0;
};

}  // namespace kvstow
