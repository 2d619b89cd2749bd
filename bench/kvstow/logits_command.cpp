// The logits of given tokens: what a comparison with another implementation needs.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "bench/experiment/real_model.h"
#include "bench/kvstow/commands.h"
#include "bench/kvstow/forced_rows.h"
#include "bench/kvstow/logits_model.h"
#include "core/check.h"
#include "core/text.h"

namespace kvstow {
namespace {

using kernels::DType;

Sequence read_sequence(const std::string& line, const Transformer& shape,
                       const std::string& where) {
  Sequence sequence;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    std::int32_t token = -1;
    const char* const end = word.data() + word.size();
    const auto [at, error] = std::from_chars(word.data(), end, token);
    if (error != std::errc() || at != end || token < 0 || token >= shape.vocab) {
      throw InputError(
          fmt::format("{}: '{}' is not a token id below {}", where, word, shape.vocab));
    }
    sequence.push_back(token);
  }
  if (sequence.empty()) throw InputError(where + ": no tokens");
  if (sequence.size() > static_cast<std::size_t>(shape.max_positions)) {
    throw InputError(fmt::format("{}: {} tokens, but the model has {} positions", where,
                                 sequence.size(), shape.max_positions));
  }
  return sequence;
}

std::vector<Sequence> read_sequences(const std::string& file, const Transformer& shape) {
  std::ifstream in(file);
  if (!in) throw InputError(file + ": cannot be read");
  std::vector<Sequence> sequences;
  for (std::string line; std::getline(in, line);) {
    const std::string where = fmt::format("{}:{}", file, sequences.size() + 1);
    sequences.push_back(read_sequence(line, shape, where));
  }
  if (sequences.empty()) throw InputError(file + ": no sequences");
  return sequences;
}

std::size_t index_of(const std::string& name, const std::vector<std::string>& names,
                     const char* option) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  throw InputError(
      fmt::format("{}: unknown '{}' (nearest: {})", option, name, nearest_name(name, names)));
}

std::unique_ptr<LogitsModel> load(const LogitsArguments& arguments, const Transformer& shape,
                                  const LogitsRoom& room) {
  const bool cpu = index_of(arguments.executor, {"cpu", "cuda"}, "--executor") == 0;
  const auto dtype =
      static_cast<DType>(index_of(arguments.dtype, {"f32", "f16", "bf16"}, "--dtype"));
  if (cpu && dtype != DType::f32) {
    throw InputError(
        fmt::format("--dtype: executor cpu computes in f32, not in {}", arguments.dtype));
  }
  if (!cpu) check_gpu_shape(shape, dtype, arguments.model + "/config.json");
  const auto weights = open_checkpoint(arguments.model);
  return cpu ? cpu_logits_model(shape, *weights, room)
             : cuda_logits_model(shape, *weights, dtype, room);
}

}  // namespace

int logits_command(const LogitsArguments& arguments) {
  const Transformer shape = read_hf_config(arguments.model);
  const std::vector<Sequence> sequences = read_sequences(arguments.tokens, shape);
  const ForcedRows rows(sequences, arguments.block_tokens);
  const auto model = load(arguments, shape, rows.room(arguments.prompt));
  std::ofstream out(arguments.out, std::ios::binary);
  const auto run = [&](const ForcedRows::Step& step) {
    const auto row_bytes = static_cast<std::streamsize>(sizeof(float)) * shape.vocab;
    const char* row = reinterpret_cast<const char*>(model->forward(step.rows).data());
    for (const std::int64_t place : step.place) {
      out.seekp(place * row_bytes);
      out.write(row, row_bytes);
      row += row_bytes;
    }
    if (!out.flush()) throw InputError(arguments.out + ": cannot be written");
  };
  run(rows.prompts(arguments.prompt));
  for (int p = arguments.prompt; p < rows.longest(); ++p) run(rows.decodes(p));
  fmt::print("{}: {} x {} logits\n", arguments.out, rows.tokens(), shape.vocab);
  return 0;
}

}  // namespace kvstow
