// Fig. 18 of the PagedAttention paper on this device: the decode kernels of 2023 beside ours at the
// figure's points, and the time of a kernel over the block size.
#include <string>

#include "bench/kernels_cuda/decode_case.h"
#include "kernels/cuda/museum/museum.h"

namespace kvstow::bench {
namespace {

namespace cuda = kernels::cuda;

enum class Body { paper_2023, faster_transformer, ours, ours_full_dependency };

const char* name_of(Body body) {
  switch (body) {
    case Body::paper_2023:
      return "paper-2023";
    case Body::faster_transformer:
      return "faster-transformer";
    case Body::ours:
      return "ours";
    case Body::ours_full_dependency:
      return "ours-full-dependency";
  }
  return "";
}

void run(benchmark::State& state, Body body, int batch, int context, int block_tokens) {
  for (auto _ : state) {
    const std::vector<std::int32_t> lengths(static_cast<std::size_t>(batch), context);
    DecodeCase c(kOpt13b, lengths, block_tokens);
    const auto paper = [&](const auto& args, cudaStream_t stream) {
      cuda::museum::paper_2023_decode(args, c.longest, stream);
    };
    const auto faster_transformer = [&](const auto& args, cudaStream_t stream) {
      cuda::museum::faster_transformer_decode(args, c.longest, stream);
    };
    const double error = body == Body::paper_2023 ? c.error_of(c.table_map, paper)
                         : body == Body::faster_transformer
                             ? c.error_of(c.affine_map, faster_transformer)
                             : c.error(c.table_map);
    state.counters["relative_l2"] = error;
    if (!(error <= 7e-4)) return state.SkipWithError("wrong result");

    Lab& lab = Lab::get();
    const ChainTime read = lab.plain_read(c.bytes).time;
    const ChainTime time = time_chain(c.launches, lab.stream, [&](int layer, cudaStream_t s) {
      if (body == Body::paper_2023) return paper(c.args(c.table_map, layer), s);
      if (body == Body::faster_transformer) {
        return faster_transformer(c.args(c.affine_map, layer), s);
      }
      c.launch(c.table_map, layer, body == Body::ours ? cuda::Dependent::yes : cuda::Dependent::no,
               s);
    });
    report_over_read(state, time, read, c.bytes);
  }
}

void add(const std::string& name, Body body, int batch, int context, int block_tokens) {
  add_row(name, [=](benchmark::State& s) { run(s, body, batch, context, block_tokens); });
}

}  // namespace

void register_museum_benchmarks() {
  for (const int batch : {8, 32}) {
    for (const int context : {64, 128, 256}) {
      for (const Body body :
           {Body::paper_2023, Body::faster_transformer, Body::ours, Body::ours_full_dependency}) {
        add(std::string("fig18a/") + name_of(body) + "/" + std::to_string(batch) + "/" +
                std::to_string(context),
            body, batch, context, 16);
      }
    }
  }
  // Batches and contexts like those of Fig. 18b: at its rates some 32 ShareGPT and 128 Alpaca
  // requests run at once, with 512 and 64 tokens of context.
  for (int block = 1; block <= 256; block *= 2) {
    for (const Body body : {Body::paper_2023, Body::ours}) {
      add(std::string("block_size/") + name_of(body) + "/sharegpt/" + std::to_string(block), body,
          32, 512, block);
      add(std::string("block_size/") + name_of(body) + "/alpaca/" + std::to_string(block), body,
          128, 64, block);
    }
  }
}

}  // namespace kvstow::bench
