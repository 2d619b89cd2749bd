// The figures of the synthetic length laws (facts about public data sets, recomputed by
// tests/workloads/real_traces_test.cpp).
#include "workloads/quantile_tables.h"

namespace kvstow {
namespace {

using Lengths = std::array<std::uint16_t, kQuantiles>;

// clang-format off

// ShareGPT, first human turn and first reply in the tokens of OPT's tokenizer: the length file of
// the PagedAttention paper's SOSP'23 artifact (github.com/sosp-ae-39/sosp-ae-astra), the 79,731 of
// its 84,226 pairs with prompt + output <= 2048. Means 161.310 / 337.988.
constexpr Lengths kSharegptPromptTokens = {{
    1, 2, 3, 5, 6, 7, 7, 8, 8, 8, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15,
    16, 16, 17, 17, 18, 18, 19, 20, 20, 21, 22, 22, 23, 24, 24, 25, 26, 27, 28, 29, 30, 31, 33,
    34, 35, 37, 38, 40, 42, 44, 46, 48, 50, 52, 55, 58, 61, 64, 67, 71, 75, 79, 84, 89, 94, 100,
    107, 115, 123, 133, 144, 157, 169, 185, 203, 222, 241, 266, 294, 324, 355, 385, 419, 458,
    507, 558, 620, 693, 775, 864, 986, 1088, 1230, 1464, 1639, 1873, 2028}};
constexpr Lengths kSharegptOutputTokens = {{
    1, 4, 10, 11, 17, 22, 26, 31, 35, 40, 45, 51, 57, 63, 70, 75, 80, 86, 91, 96, 101, 106, 111,
    117, 122, 128, 133, 139, 145, 151, 157, 164, 170, 176, 182, 188, 194, 199, 205, 211, 216,
    222, 227, 233, 239, 244, 249, 254, 260, 266, 271, 277, 282, 288, 294, 300, 306, 312, 317,
    323, 330, 337, 343, 350, 357, 364, 372, 379, 387, 395, 405, 413, 424, 435, 445, 458, 471,
    483, 496, 511, 525, 540, 559, 577, 598, 619, 640, 666, 694, 725, 754, 768, 786, 812, 846,
    899, 961, 1040, 1139, 1280, 1443, 1707, 2009}};

// Alpaca in OPT's tokens: 5,702 random rows of public copies of stanford_alpaca (CC BY-NC 4.0).
// Means 19.34 / 57.92 (the paper's Fig. 11 prints 19.31 / 58.45), rank correlation -0.240.
constexpr Lengths kAlpacaPromptTokens = {{
    6, 8, 8, 9, 9, 9, 10, 10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 12, 12, 12, 12, 12, 12,
    12, 12, 13, 13, 13, 13, 13, 13, 13, 14, 14, 14, 14, 14, 14, 14, 14, 15, 15, 15, 15, 15, 15,
    16, 16, 16, 16, 16, 16, 17, 17, 17, 17, 17, 18, 18, 18, 18, 19, 19, 19, 19, 20, 20, 20, 20,
    21, 21, 21, 22, 22, 22, 23, 23, 23, 24, 24, 25, 25, 26, 26, 27, 27, 28, 29, 30, 31, 32, 33,
    34, 36, 38, 41, 46, 55, 69, 92, 130, 155}};
constexpr Lengths kAlpacaOutputTokens = {{
    1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 13,
    14, 14, 15, 16, 16, 17, 18, 19, 20, 20, 21, 22, 23, 25, 26, 27, 29, 31, 32, 34, 36, 38, 40,
    42, 44, 46, 48, 49, 51, 53, 54, 56, 58, 60, 62, 64, 65, 68, 69, 71, 72, 74, 76, 77, 79, 81,
    83, 84, 86, 89, 91, 93, 95, 97, 99, 102, 104, 106, 109, 111, 115, 118, 121, 126, 130, 135,
    143, 150, 161, 175, 195, 227, 270, 312, 461, 567}};

// WMT English-German sentence pairs in LLaMA's tokens: 9,999 pairs from OpenNMT/OpenNMT-py (MIT),
// standing in for WMT16. Means 28.00 / 38.47, rank correlation +0.857.
constexpr Lengths kWmtSourceTokens = {{
    1, 6, 7, 8, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 14, 15, 15, 15, 16, 16, 17, 17, 17,
    18, 18, 18, 19, 19, 19, 19, 20, 20, 20, 21, 21, 22, 22, 22, 22, 23, 23, 23, 24, 24, 24, 25,
    25, 25, 26, 26, 27, 27, 27, 28, 28, 28, 29, 29, 29, 30, 30, 30, 31, 31, 32, 32, 33, 33, 33,
    34, 34, 35, 35, 36, 36, 37, 37, 38, 38, 39, 40, 40, 41, 42, 42, 43, 44, 45, 46, 47, 48, 49,
    50, 51, 53, 54, 56, 59, 63, 68, 79, 94}};
constexpr Lengths kWmtTargetTokens = {{
    1, 8, 10, 11, 12, 13, 14, 15, 15, 16, 17, 17, 18, 18, 19, 20, 20, 21, 21, 22, 22, 23, 23,
    23, 24, 24, 25, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30, 30, 30, 31, 31, 32, 32, 33, 33, 34,
    34, 34, 35, 35, 36, 36, 37, 37, 38, 38, 39, 39, 40, 40, 41, 41, 42, 42, 43, 44, 44, 45, 45,
    46, 46, 47, 48, 49, 49, 50, 51, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 65, 66,
    68, 69, 71, 73, 75, 78, 81, 87, 92, 103, 118}};

// clang-format on

}  // namespace

const QuantileTable kSharegptPrompt{kSharegptPromptTokens}, kSharegptOutput{kSharegptOutputTokens};
const QuantileTable kAlpacaPrompt{kAlpacaPromptTokens}, kAlpacaOutput{kAlpacaOutputTokens};
const QuantileTable kWmtSource{kWmtSourceTokens}, kWmtTarget{kWmtTargetTokens};

}  // namespace kvstow
