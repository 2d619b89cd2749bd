// A workload: request lengths, arrivals, decodings and a scenario, joined into one trace.
//
//   make_workload(config, seed) -> Workload (a TraceSource with a running report)
//
// Each purpose draws from its own random stream, so that for one seed
//   - the sequence of lengths, decodings and scenario choices is the same at every rate,
//   - changing the lengths (or the decodings, or the scenario) does not move an arrival.
// Every arm of a sweep therefore sees the same trace. The laws, their sources and the file formats
// are described in workloads/README.md.
//
// Errors: InputError for an unusable config ("workload.rate_per_s: ...") or file ("trace.csv:12:
// ..."). A file is read and checked (up to file_rows) by make_workload, before the first request
// leaves it: next() of a made workload throws only for lengths that a synthetic law draws over the
// limit under over_limit error.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/request.h"
#include "core/types.h"

namespace kvstow {

// Where prompt and output lengths come from.
enum class LengthLaw : std::uint8_t {
  sharegpt,  // synthetic ShareGPT (OPT tokenizer), means 161.31 / 337.99
  alpaca,    // synthetic Alpaca (OPT tokenizer), means 19.31 / 58.45
  wmt_ende,  // synthetic WMT en-de sentence pairs (LLaMA tokenizer): source and reference length
  fixed,     // one prompt length, and outputs alike or spread by output_cv
  file,      // rows of `file`
};
inline constexpr std::string_view kLengthLawNames[] = {"sharegpt", "alpaca", "wmt-ende", "fixed",
                                                       "file"};

enum class ArrivalLaw : std::uint8_t {
  poisson,
  gamma,        // gaps ~ Gamma(shape = burstiness): CV = 1 / sqrt(burstiness), 1 is Poisson
  all_at_zero,  // the offline batch
  trace,        // the times of `file`, optionally rescaled to rate_per_s
};
inline constexpr std::string_view kArrivalLawNames[] = {"poisson", "gamma", "all-at-zero", "trace"};

// What happens to a request with prompt + output > max_model_len.
enum class OverLimit : std::uint8_t {
  error,  // InputError
  drop,   // leaves the trace (with synthetic arrivals the next request takes its arrival)
  clip,   // the prompt keeps its first max_model_len - 1 tokens, the output what is left
};
inline constexpr std::string_view kOverLimitNames[] = {"error", "drop", "clip"};

enum class Scenario : std::uint8_t {
  none,
  shared_prefix,  // every prompt is prefix + the drawn prompt (paper, Fig. 16)
  chatbot,        // multi-turn conversations, history recomputed every round (paper, Fig. 17)
};
inline constexpr std::string_view kScenarioNames[] = {"none", "shared-prefix", "chatbot"};

enum class FileFormat : std::uint8_t {
  automatic,      // by the name's ending: .csv, .jsonl, .json
  csv,            // columns found by the header's names (kvstow's own, or Azure's)
  jsonl,          // Mooncake: timestamp (ms), input_length, output_length, hash_ids
  sharegpt_json,  // vLLM's: [{"conversations": [{"from": ..., "value": ...}, ...]}, ...]
};
inline constexpr std::string_view kFileFormatNames[] = {"auto", "csv", "jsonl", "sharegpt-json"};

struct DecodingShare {
  Decoding decoding;
  double weight = 1;  // >= 0; shares of the mix are weights over their sum
};

struct WorkloadConfig {
  LengthLaw lengths = LengthLaw::sharegpt;
  Tokens fixed_prompt{0};  // lengths fixed
  Tokens fixed_output{0};  // lengths fixed: the mean
  // lengths fixed: outputs ~ Gamma with this coefficient of variation (sd / mean); 0 = all alike.
  double output_cv = 0;

  std::string file;  // lengths file and arrivals trace
  FileFormat file_format = FileFormat::automatic;
  bool shuffle = false;        // lengths file with synthetic arrivals: a new random order each pass
  std::int64_t file_rows = 0;  // use only the first rows that over_limit leaves in; 0 = all
  double chars_per_token = 4;  // sharegpt_json: tokens = ceil(UTF-8 characters / this)

  ArrivalLaw arrivals = ArrivalLaw::poisson;
  double rate_per_s = 0;     // requests/s; required for poisson and gamma; trace: 0 = as recorded
  double burstiness = 1;     // gamma
  Seconds quantum_s = 0.01;  // poisson and gamma arrivals are floored to multiples; 0 = exact

  // The trace ends at whichever comes first; 0 = no such limit. A synthetic law needs one of them
  // (all-at-zero: max_requests). A lengths file is repeated until the limit, or read once without.
  Seconds duration_s = 0;  // arrivals are < duration_s
  std::int64_t max_requests = 0;

  Tokens max_model_len{2048};
  OverLimit over_limit = OverLimit::error;

  std::vector<DecodingShare> decodings{{}};  // one draw per request

  Scenario scenario = Scenario::none;
  Tokens prefix_tokens{0};     // shared_prefix: 80 (1-shot) and 341 (5-shot) in the paper
  double p_new = 0.5;          // chatbot: an arrival starts a conversation with this probability
  Tokens history_limit{1024};  // chatbot: the prompt is the last so many tokens of history + query
  Tokens output_limit{1016};   // chatbot: 1024 in the paper's text, 1016 in its artifact

  // Sequences of the widest request.
  [[nodiscard]] int widest() const {
    int width = 1;
    for (const DecodingShare& share : decodings) width = std::max(width, share.decoding.width);
    return width;
  }
};

// What has left the workload so far.
struct WorkloadReport {
  std::int64_t offered = 0;  // requests before over_limit: delivered + dropped
  std::int64_t delivered = 0;
  std::int64_t dropped = 0;        // over max_model_len under over_limit drop
  std::int64_t clipped = 0;        // ... under over_limit clip
  std::int64_t prompt_tokens = 0;  // sums over the delivered requests
  std::int64_t output_tokens = 0;  // one sequence each, whatever the decoding's width
  Seconds last_arrival = 0;
  std::uint64_t content_hash =
      0;  // of arrival, lengths, decoding, prefix of every delivered request

  [[nodiscard]] double over_limit_share() const {
    return offered > 0 ? static_cast<double>(dropped + clipped) / static_cast<double>(offered) : 0;
  }
  [[nodiscard]] double mean_prompt() const { return per_request(prompt_tokens); }
  [[nodiscard]] double mean_output() const { return per_request(output_tokens); }

 private:
  [[nodiscard]] double per_request(std::int64_t sum) const {
    return delivered > 0 ? static_cast<double>(sum) / static_cast<double>(delivered) : 0;
  }
};

class Workload : public TraceSource {
 public:
  [[nodiscard]] virtual const WorkloadReport& report() const = 0;
};

// The trace of (config, seed). Deterministic: equal arguments give equal requests.
[[nodiscard]] std::unique_ptr<Workload> make_workload(const WorkloadConfig& config,
                                                      std::uint64_t seed);

// The report of the whole trace, by making and draining a copy: the share that over_limit takes and
// the content hash (for result keys), before anything runs.
[[nodiscard]] WorkloadReport scan_workload(const WorkloadConfig& config, std::uint64_t seed);

}  // namespace kvstow
