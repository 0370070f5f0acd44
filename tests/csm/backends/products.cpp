// Prints, bit by bit, products of matrices of 4 and 8 bits with rows of activations, all drawn from one sequence.

#include <cstdio>

#include "cpu_matrix.h"

uint32_t drawn = 1;

uint32_t draw() { return drawn = drawn * 1664525u + 1013904223u; }

int main() {
  constexpr int OUTPUTS = 32, ROWS_HERE = 7, INPUTS = 200, GROUPS = 4;
  for (int bits : {4, 8}) {
    std::vector<uint8_t> codes(size_t(OUTPUTS) * GROUPS * GROUP * bits / 8);
    std::vector<uint16_t> scales(OUTPUTS * GROUPS);
    std::vector<float> x(ROWS_HERE * INPUTS);
    // An 8-bit code of -128 is never packed.
    for (auto& code : codes) code = uint8_t(draw() >> 24) == 128 && bits == 8 ? 129 : uint8_t(drawn >> 24);
    for (auto& scale : scales) scale = to_bfloat16(float(draw() >> 8) / (1 << 24) - 0.5f);
    for (auto& value : x) value = float(draw() >> 8) / (1 << 24) - 0.5f;
    Rounded rounded(ROWS_HERE, INPUTS);
    rounded.take(x.data(), ROWS_HERE, INPUTS);
    const Linear linear{codes.data(), scales.data(), OUTPUTS, INPUTS, bits};
    for (int block = 0; block < OUTPUTS / BLOCK; block++) {
      Floats outputs[ROWS_HERE];
      multiply_block(linear, block, rounded, ROWS_HERE, outputs);
      for (const auto& row : outputs)
        for (int i = 0; i < BLOCK; i++) std::printf("%08x\n", as<uint32_t>(row[i]));
    }
  }
}
