// Where a step of decodes spends its time: the device's parts and the host's, each adding up to the
// step as it was measured.
//
// Nothing can be timed inside a graph that runs as it always does. So the parts of the device come
// from a second run of the same point, whose graphs hold events between the classes of kernels.
// These cost time and forbid kernels to overlap: an empty stretch is subtracted for each, and where
// the sum is still longer than the measured step, all parts are scaled down to it. Nothing is
// scaled up: what the events did not see stays unexplained.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/metrics/host_profile.h"
#include "core/metrics/launch_times.h"

namespace kvstow {

struct DeviceStep {
  bool graph = false;    // decodes only
  Seconds idle = 0;      // of the device, before the step
  Seconds device = 0;    // from the step's first work to its last
  LaunchTimes launches;  // where launches are marked
};

struct TimePart {
  std::string name;
  Seconds time = 0;  // mean over the steps
};

struct Attribution {
  std::int64_t steps = 0;  // graphs that follow graphs
  Seconds step = 0;        // mean, from the end of the step before
  std::vector<TimePart> device;
  std::vector<TimePart> host;  // beside the device, which it mostly hides behind
  Seconds device_unexplained = 0;
  Seconds host_unexplained = 0;
  Seconds mark = 0;  // subtracted from each stretch between two events
  double scale = 1;  // of the device's classes of kernels; at most 1
};

// `measured` and `host` are of one run, step by step; `marked` of another one with marked launches.
[[nodiscard]] Attribution attribute(std::span<const DeviceStep> measured,
                                    std::span<const HostStep> host,
                                    std::span<const DeviceStep> marked);

// Microseconds per step.
[[nodiscard]] nlohmann::json attribution_json(const Attribution&);

// As a table for people, from what attribution_json() made.
[[nodiscard]] std::string attribution_text(const nlohmann::json&);

}  // namespace kvstow
