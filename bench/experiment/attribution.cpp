#include "bench/experiment/attribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>

#include "core/check.h"

namespace kvstow {
namespace {

using nlohmann::json;

constexpr double kMicro = 1e6;

// Steps whose time is that of a graph after a graph, and in which the host, two steps ahead, waits
// for a graph.
std::vector<std::size_t> steady(std::span<const DeviceStep> steps) {
  std::vector<std::size_t> found;
  for (std::size_t i = 2; i < steps.size(); ++i) {
    if (steps[i].graph && steps[i - 1].graph && steps[i - 2].graph) found.push_back(i);
  }
  return found;
}

template <class Value>
Seconds mean(const std::vector<std::size_t>& steps, const Value& value) {
  Seconds sum = 0;
  for (const std::size_t i : steps) sum += value(i);
  return steps.empty() ? 0 : sum / static_cast<double>(steps.size());
}

struct HostPart {
  const char* name;
  std::initializer_list<HostStage> stages;
};
const HostPart kHostParts[] = {
    {"scheduler", {HostStage::schedule}},
    {"allocator",
     {HostStage::admit, HostStage::grow, HostStage::reorder, HostStage::swap_out,
      HostStage::swap_in, HostStage::release}},
    {"rows", {HostStage::submit}},
    {"table upload", {HostStage::upload}},
    {"copies", {HostStage::plan}},
    {"launch", {HostStage::launch_graph, HostStage::forward}},
    {"settle", {HostStage::settle}},
    {"engine", {HostStage::engine}},
    {"wait", {HostStage::wait}},
};

Seconds sum_of(const std::vector<TimePart>& parts) {
  Seconds sum = 0;
  for (const TimePart& part : parts) sum += part.time;
  return sum;
}

}  // namespace

Attribution attribute(std::span<const DeviceStep> measured, std::span<const HostStep> host,
                      std::span<const DeviceStep> marked) {
  KVSTOW_CHECK(host.size() == measured.size(), "a step without its host's times");
  Attribution a;
  const std::vector<std::size_t> steps = steady(measured);
  a.steps = std::ssize(steps);
  const Seconds idle = mean(steps, [&](std::size_t i) { return measured[i].idle; });
  const Seconds busy = mean(steps, [&](std::size_t i) { return measured[i].device; });
  a.step = idle + busy;

  const std::vector<std::size_t> twins = steady(marked);
  const auto launches = [&](const auto& value) {
    return mean(twins, [&](std::size_t i) { return value(marked[i].launches); });
  };
  a.mark = launches([](const LaunchTimes& t) { return t.mark; });
  for (std::size_t c = 0; c < kLaunchClasses; ++c) {
    const Seconds time = launches([&](const LaunchTimes& t) { return t.of_class[c]; });
    const Seconds stretches = launches([&](const LaunchTimes& t) { return t.stretches[c]; });
    a.device.push_back({kLaunchClassNames[c], std::max(time - stretches * a.mark, 0.0)});
  }
  const Seconds seen = sum_of(a.device);
  if (seen > busy) a.scale = busy / seen;
  for (TimePart& part : a.device) part.time *= a.scale;
  // What keeps a step from beginning when the one before it has ended.
  const Seconds upload = launches([](const LaunchTimes& t) { return t.start; });
  const Seconds copies = launches([](const LaunchTimes& t) { return t.copies; });
  a.device.push_back({"copies", std::min(copies, idle)});
  a.device.push_back({"table upload", std::clamp(upload, 0.0, std::max(idle - copies, 0.0))});
  a.device.push_back({"idle", std::max(idle - upload - copies, 0.0)});
  a.device_unexplained = a.step - sum_of(a.device);

  for (const HostPart& part : kHostParts) {
    const auto of_step = [&](std::size_t i) {
      Seconds sum = 0;
      for (const HostStage stage : part.stages) sum += host[i][static_cast<std::size_t>(stage)];
      return sum;
    };
    a.host.push_back({part.name, mean(steps, of_step)});
  }
  a.host_unexplained = a.step - sum_of(a.host);
  return a;
}

json attribution_json(const Attribution& a) {
  const auto parts = [](const std::vector<TimePart>& list, Seconds unexplained) {
    json out = json::object();
    for (const TimePart& part : list) out[part.name] = part.time * kMicro;
    out["unexplained"] = unexplained * kMicro;
    return out;
  };
  return {{"steps", a.steps},
          {"step_us", a.step * kMicro},
          {"device_us", parts(a.device, a.device_unexplained)},
          {"host_us", parts(a.host, a.host_unexplained)},
          {"mark_us", a.mark * kMicro},
          {"scale", a.scale}};
}

std::string attribution_text(const json& a) {
  const double step = a.at("step_us").get<double>();
  std::string text = fmt::format("a step of decodes: {:.1f} us (mean of {})", step,
                                 a.at("steps").get<std::int64_t>());
  const auto line = [&](const std::string& name, double us) {
    text +=
        fmt::format("\n    {:<14}{:9.1f} us{:7.1f} %", name, us, step > 0 ? 100 * us / step : 0);
  };
  for (const char* const side : {"device_us", "host_us"}) {
    text += side == std::string_view("host_us")
                ? "\n  host, beside it"
                : fmt::format("\n  device, parts scaled by {:.3f}", a.at("scale").get<double>());
    auto parts = a.at(side).get<std::map<std::string, double>>();
    const double unexplained = parts.extract("unexplained").mapped();
    std::vector<std::pair<double, std::string>> longest_first;
    for (const auto& [name, us] : parts) longest_first.emplace_back(us, name);
    std::sort(longest_first.rbegin(), longest_first.rend());
    for (const auto& [us, name] : longest_first) line(name, us);
    line("unexplained", unexplained);
  }
  return text;
}

}  // namespace kvstow
