#include "core/exec/cpu/cpu_executor.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/check.h"
#include "core/rng.h"

namespace kvstow {

using kernels::DType;
using kernels::KvPool;

namespace {

KvPool make_pool(const Transformer& shape, Tokens slots, bool poison, FloatArray& data) {
  KvPool pool{nullptr, {shape.layers, shape.kv_heads, shape.head_dim, slots.count(), DType::f32}};
  data = FloatArray(static_cast<std::size_t>(pool.layout.elements()));
  pool.data = data.data();
  if (poison) std::fill_n(data.data(), data.size(), std::numeric_limits<float>::quiet_NaN());
  return pool;
}

void poison_slots(const KvPool& pool, Slot first, Tokens length) {
  const std::int64_t width = pool.layout.slot_stride();
  KVSTOW_CHECK(first.index() >= 0 && first.index() + length.count() <= pool.layout.slots,
               "a memory plan frees slots outside its pool");
  for (int layer = 0; layer < pool.layout.layers; ++layer) {
    for (int part = 0; part < 2; ++part) {
      std::fill_n(static_cast<float*>(pool.data) + pool.layout.part_offset(layer, part) +
                      first.index() * width,
                  length.count() * width, std::numeric_limits<float>::quiet_NaN());
    }
  }
}

}  // namespace

CpuExecutor::CpuExecutor(std::shared_ptr<const CpuTransformer> model, const KvAllocator& allocator,
                         const CpuExecutorConfig& config)
    : model_(std::move(model)), allocator_(allocator), config_(config), threads_(config.threads) {
  const Transformer& shape = model_->shape();
  device_ = make_pool(shape, allocator.stats(Tier::device).capacity, config.poison, device_data_);
  host_ = make_pool(shape, allocator.stats(Tier::host).capacity, config.poison, host_data_);
}

void CpuExecutor::submit(const Step& step) {
  const auto begin = std::chrono::steady_clock::now();
  run_plan(step.plan);
  collect_rows(step);
  tokens_.clear();
  if (rows_.rows() > 0) draw(model_->forward(rows_, device_, work_, threads_));
  result_.tokens = tokens_;
  result_.elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void CpuExecutor::run_plan(const MemPlan& plan) {
  const auto run = [&](const MemOp* ops, std::ptrdiff_t count) {
    kernels::cpu::run_mem_plan({ops, count, device_, host_}, threads_);
  };
  if (!config_.poison) return run(plan.ops().data(), std::ssize(plan.ops()));
  for (const MemOp& op : plan.ops()) {
    run(&op, 1);
    if (op.kind == MemOpKind::free_device) poison_slots(device_, op.src, op.length);
    if (op.kind == MemOpKind::free_host) poison_slots(host_, op.src, op.length);
  }
}

CpuExecutor::History& CpuExecutor::history_of(SeqId seq, const Request& request) {
  if (seq.index() >= histories_.size()) histories_.resize(seq.index() + 1);
  History& history = histories_[seq.index()];
  if (history.request != request.id) {
    history.request = request.id;
    history.tokens.clear();
    history.score = 0;
  }
  return history;
}

std::int32_t CpuExecutor::token_at(const StepGroup& group, SeqId seq, Tokens position) {
  const Request& request = *group.request;
  if (position >= group.request->prompt) {
    const auto index = static_cast<std::size_t>((position - group.request->prompt).count());
    const History& history = history_of(seq, request);
    KVSTOW_CHECK(index < history.tokens.size(), "a step feeds back a token that was never drawn");
    return history.tokens[index];
  }
  const bool prefix = request.prefix.valid() && position < request.prefix_tokens;
  const std::uint64_t owner = prefix ? request.prefix.index() : request.id.index();
  std::uint64_t key = mix64(config_.seed ^ hash_name(prefix ? "prefix tokens" : "prompt tokens"));
  key = mix64(key + 0x9e3779b97f4a7c15ULL * (owner + 1));
  key = mix64(key + 0x9e3779b97f4a7c15ULL * static_cast<std::uint64_t>(position.count() + 1));
  const auto vocab = static_cast<std::uint64_t>(model_->shape().vocab);
  return static_cast<std::int32_t>((key >> 32) * vocab >> 32);
}

// A shared prompt is computed once where the allocator did share it; one that gives each sequence
// its own slots has to have each of them filled.
std::size_t CpuExecutor::members_to_compute(const StepGroup& group) const {
  const Tokens last = group.first + group.count - Tokens(1);
  const auto slot = [&](SeqId seq) { return allocator_.view(seq).slot(last); };
  const bool one =
      group.shared && std::all_of(group.sequences.begin(), group.sequences.end(), [&](SeqId seq) {
        return slot(seq) == slot(group.sequences.front());
      });
  return one ? 1 : group.sequences.size();
}

// Prompts first, as the kernels want them; then the generated tokens of every sequence.
void CpuExecutor::collect_rows(const Step& step) {
  rows_.clear();
  draws_.clear();
  struct Member {
    const StepGroup* group;
    SeqId seq;
  };
  std::vector<Member> members;
  for (const StepGroup& group : step.groups) {
    const std::size_t count = members_to_compute(group);
    if (group.request->output > Tokens(0)) draws_.push_back({&group, 0, count});
    for (std::size_t i = 0; i < count; ++i) members.push_back({&group, group.sequences[i]});
  }
  std::int64_t longest = 0;
  for (const Member& m : members) {
    const Tokens end = m.group->first + m.group->count;
    KVSTOW_CHECK(end <= Tokens(model_->shape().max_positions),
                 "a sequence is longer than the model's positions");
    longest = std::max(longest, end.count());
  }
  if (members.empty()) return;
  const KvView sample = allocator_.view(members.front().seq);
  rows_.block_tokens = static_cast<int>(sample.block_tokens.count());
  if (sample.is_extent()) {
    rows_.first.resize(members.size());
  } else {
    rows_.table_stride = ceil_div(longest, rows_.block_tokens);
    rows_.table.assign(members.size() * static_cast<std::size_t>(rows_.table_stride), -1);
  }
  for (std::size_t i = 0; i < members.size(); ++i) {
    set_map(*members[i].group, members[i].seq, i);
    add_prompt_rows(*members[i].group, members[i].seq, static_cast<std::int32_t>(i));
  }
  std::vector<std::int32_t> last_row(members.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Member& m = members[i];
    add_generated_rows(*m.group, m.seq, static_cast<std::int32_t>(i));
    last_row[i] = rows_.rows() - 1;
    if (m.group->first + m.group->count <=
        m.group->request->prompt) {  // its last row is a prompt row
      const auto prompt = std::lower_bound(rows_.prefill_map.begin(), rows_.prefill_map.end(),
                                           static_cast<std::int32_t>(i));
      last_row[i] =
          rows_.prefill_begin[static_cast<std::size_t>(prompt - rows_.prefill_map.begin() + 1)] - 1;
    }
  }
  std::size_t member = 0;
  auto next = draws_.begin();
  for (const StepGroup& group : step.groups) {
    const std::size_t count = members_to_compute(group);
    if (next != draws_.end() && next->group == &group) {
      next->first_row = rows_.logits.size();
      rows_.logits.insert(rows_.logits.end(),
                          last_row.begin() + static_cast<std::ptrdiff_t>(member),
                          last_row.begin() + static_cast<std::ptrdiff_t>(member + count));
      ++next;
    }
    member += count;
  }
}

void CpuExecutor::set_map(const StepGroup& group, SeqId seq, std::size_t map_row) {
  const KvView view = allocator_.view(seq);
  const Tokens end = group.first + group.count;
  KVSTOW_CHECK(view.block_tokens.count() == rows_.block_tokens, "one kind of map for each step");
  KVSTOW_CHECK(end <= view.capacity, "a sequence has fewer slots than tokens");
  const auto check_run = [&](std::int64_t first, std::int64_t length) {
    KVSTOW_CHECK(first >= 0 && first + length <= device_.layout.slots,
                 "a view points outside the pool");
  };
  if (view.is_extent()) {
    check_run(view.first.index(), end.count());
    rows_.first[map_row] = view.first.index();
    return;
  }
  std::int32_t* table =
      rows_.table.data() + static_cast<std::int64_t>(map_row) * rows_.table_stride;
  const std::int64_t blocks = ceil_div(end.count(), rows_.block_tokens);
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t id = view.blocks[static_cast<std::size_t>(b)].index();
    check_run(id * rows_.block_tokens, rows_.block_tokens);
    table[b] = static_cast<std::int32_t>(id);
  }
}

void CpuExecutor::add_row(const StepGroup& group, SeqId seq, Tokens position, const KvView& view) {
  rows_.token.push_back(token_at(group, seq, position));
  rows_.position.push_back(static_cast<std::int32_t>(position.count()));
  rows_.slot.push_back(view.slot(position).index());
}

void CpuExecutor::add_prompt_rows(const StepGroup& group, SeqId seq, std::int32_t map_row) {
  const Tokens end = min(group.first + group.count, group.request->prompt);
  if (group.first >= end) return;
  const KvView view = allocator_.view(seq);
  for (Tokens p = group.first; p < end; ++p) add_row(group, seq, p, view);
  rows_.prefill_begin.push_back(rows_.rows());
  rows_.prefill_map.push_back(map_row);
  rows_.prefill_first.push_back(static_cast<std::int32_t>(group.first.count()));
}

// One decode row each, also when several are recomputed at once: all of them write their K and V
// before any of them reads.
void CpuExecutor::add_generated_rows(const StepGroup& group, SeqId seq, std::int32_t map_row) {
  const KvView view = allocator_.view(seq);
  for (Tokens p = max(group.first, group.request->prompt); p < group.first + group.count; ++p) {
    add_row(group, seq, p, view);
    rows_.decode_map.push_back(map_row);
    rows_.decode_length.push_back(static_cast<std::int32_t>(p.count()) + 1);
  }
}

void CpuExecutor::draw(std::span<const float> logits) {
  const auto vocab = static_cast<std::size_t>(model_->shape().vocab);
  for (const Draw& draw : draws_) {
    const auto own = logits.subspan(draw.first_row * vocab, draw.rows * vocab);
    if (draw.group->request->decoding.kind == DecodingKind::beam) {
      draw_beams(draw, own);
    } else {
      draw_samples(draw, own);
    }
  }
}

void CpuExecutor::draw_samples(const Draw& draw, std::span<const float> logits) {
  const Request& request = *draw.group->request;
  const auto vocab = static_cast<std::size_t>(model_->shape().vocab);
  const Tokens position = draw.group->first + draw.group->count - request.prompt;
  const auto sequences = draw.group->sequences;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto row = logits.subspan(draw.rows == 1 ? 0 : i * vocab, vocab);
    const double uniform =
        uniform_for(config_.seed, request.id, static_cast<std::uint32_t>(i), position);
    const DrawnToken drawn = draw_token(row, config_.sampling, uniform);
    History& history = history_of(sequences[i], request);
    KVSTOW_CHECK(std::ssize(history.tokens) == position.count(), "an output position drawn twice");
    history.tokens.push_back(drawn.token);
    tokens_.push_back({sequences[i], sequences[i], drawn.token, drawn.logprob});
  }
}

void CpuExecutor::draw_beams(const Draw& draw, std::span<const float> logits) {
  const Request& request = *draw.group->request;
  const auto sequences = draw.group->sequences;
  const int vocab = model_->shape().vocab;
  std::vector<History> before;
  std::vector<double> scores;
  for (const SeqId seq : sequences) {
    before.push_back(history_of(seq, request));
    scores.push_back(before.back().score);
  }
  // Until the first token is drawn all beams are one, whether or not they share slots.
  const bool one = before.front().tokens.empty();
  const std::vector<BeamChoice> chosen =
      beam_step(one ? logits.first(static_cast<std::size_t>(vocab)) : logits, vocab, scores);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const BeamChoice& choice = chosen[i];
    History& history = history_of(sequences[i], request);
    history = before[static_cast<std::size_t>(choice.parent)];
    history.tokens.push_back(choice.token);
    history.score = choice.score;
    tokens_.push_back({sequences[i], sequences[static_cast<std::size_t>(choice.parent)],
                       choice.token, choice.logprob});
  }
}

const std::vector<std::int32_t>& CpuExecutor::tokens(SeqId seq) const {
  KVSTOW_CHECK(seq.index() < histories_.size(), "no tokens were drawn for this sequence");
  return histories_[seq.index()].tokens;
}

std::uint64_t CpuExecutor::token_hash(SeqId seq) const {
  std::uint64_t hash = hash_name("tokens");
  for (const std::int32_t token : tokens(seq)) {
    hash = mix64(hash + 0x9e3779b97f4a7c15ULL * (static_cast<std::uint64_t>(token) + 1));
  }
  return hash;
}

}  // namespace kvstow
