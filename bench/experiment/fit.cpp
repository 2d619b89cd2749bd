#include "bench/experiment/fit.h"

#include <algorithm>
#include <vector>

#include "bench/experiment/run_point.h"
#include "bench/registry/allocators.h"

namespace kvstow {
namespace {

constexpr std::size_t kMostRequests = 1 << 16;  // more than any pool of the laboratory holds

std::vector<Request> first_requests(const ResolvedPoint& point) {
  const auto workload = make_workload(point.workload, point.seed);
  std::vector<Request> requests;
  while (requests.size() < kMostRequests) {
    auto request = workload->next();
    if (!request) break;
    requests.push_back(std::move(*request));
  }
  return requests;
}

// What a static batch reserves for each member: its longest prompt and its longest output.
Tokens batch_total(const std::vector<Request>& requests, std::int64_t batch_size) {
  Tokens prompt{0};
  Tokens output{0};
  const auto members = std::min(requests.size(), static_cast<std::size_t>(batch_size));
  for (std::size_t i = 0; i < members; ++i) {
    prompt = max(prompt, requests[i].prompt);
    output = max(output, requests[i].output);
  }
  return prompt + output;
}

std::int64_t admit_until_refused(const ResolvedPoint& point, const std::vector<Request>& requests,
                                 bool grow, Bytes& metadata) {
  const SystemConfig& system = point.system;
  const bool batch = system.scheduler == SchedulerKind::static_batch;
  const Tokens limit = point.model.max_model_len;
  const auto allocator = make_allocator(system.allocator, pool_config(point));
  MemPlan plan;
  std::uint32_t next_seq = 0;
  std::int64_t admitted = 0;
  for (const Request& request : requests) {
    if (batch && admitted == point.batch_size) break;
    std::vector<SeqId> group;
    for (int i = 0; i < request.decoding.width; ++i) group.push_back(SeqId(next_seq++));
    const Tokens own_total = expected_total(request, length_estimate(system.estimate), limit);
    const AdmitRequest admit = {
        .group = group,
        .prompt = request.prompt,
        .expected_total = batch ? min(batch_total(requests, point.batch_size), limit) : own_total,
        .keep_free = watermark(point),
        .share_prompt = system.share_prompt};
    if (allocator->admit(admit, plan).status != AllocStatus::ok) break;
    const Tokens full = min(request.prompt + request.output, limit);
    if (grow && !batch && allocator->grow(group, full, plan) != AllocStatus::ok) break;
    ++admitted;
    plan.clear();
  }
  metadata = allocator->stats(Tier::device).metadata;
  return admitted;
}

}  // namespace

FitCount count_fitting(const ResolvedPoint& point) {
  const std::vector<Request> requests = first_requests(point);
  FitCount count;
  count.admitted = admit_until_refused(point, requests, /*grow=*/false, count.metadata);
  count.full_length = admit_until_refused(point, requests, /*grow=*/true, count.metadata);
  return count;
}

}  // namespace kvstow
