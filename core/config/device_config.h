// bench/devices/NAME.yaml -> DeviceProfile.
#pragma once

#include "core/config/yaml_reader.h"
#include "core/exec/device_profile.h"

namespace kvstow {

// The file's `name` must be NAME. Fails on unknown keys, missing rates and shares outside (0, 1].
[[nodiscard]] DeviceProfile read_device(const ConfigNode& file);

}  // namespace kvstow
