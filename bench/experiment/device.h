// Devices: how long a step takes on them, from bench/devices/NAME.yaml.
#pragma once

#include <string>
#include <vector>

#include "core/config/model_config.h"
#include "core/config/yaml_reader.h"
#include "core/exec/step_law.h"

namespace kvstow {

// A law for one model under one engine (the software whose host costs it includes).
struct NamedStepLaw {
  std::string law;
  std::string engine;
  std::string model;
  StepLaw constants;
};

// The sheet of one GPU, for the law `roofline`: no engine's host part, any model.
struct DeviceSheet {
  double bandwidth_bytes_per_s = 0;   // memory, achieved
  double flops_per_s = 0;             // fp16 tensor cores, achieved
  double link_bytes_per_s = 0;        // GPU to GPU, one direction, achieved
  Seconds per_layer_s = 0;            // launch and synchronisation of one layer's kernels
  Seconds per_allreduce_s = 0;        // latency of one all-reduce; two a layer where TP > 1
};

struct DeviceConfig {
  std::string name;
  LinkLaw host_link;
  DeviceSheet sheet;
  std::vector<NamedStepLaw> laws;
};

[[nodiscard]] DeviceConfig read_device(const ConfigNode& file);

// The law of (law, engine, model); `roofline` is computed from the sheet. InputError (at `where`)
// where the device has no such law.
[[nodiscard]] StepLaw step_law(const DeviceConfig& device, const std::string& law,
                               const std::string& engine, const ModelConfig& model,
                               int tensor_parallel, const ConfigNode& where);

// Names of the laws that the device offers.
[[nodiscard]] std::vector<std::string> law_names(const DeviceConfig& device);

}  // namespace kvstow
