// The codec's transformer (csm/codec/transformer.py) in float32: one call instead of some two hundred operations.

#pragma once

#include "cpu_matrix.h"
#include "cpu_team.h"

extern "C" {

struct CodecLayer {
  const float *norm1, *norm1_bias, *in_proj, *out_proj, *scale1;
  const float *norm2, *norm2_bias, *linear1, *linear2, *scale2;
};

struct CodecStack {
  const CodecLayer* layers;
  const float* frequencies;  // [head_dim / 2], in radians per position
  int32_t count, dim, heads, ffn, window;
  float eps;
};

}

namespace {

// What the threads of a team share, for a number of rows.
struct CodecState {
  std::vector<float> queries, heard, inner;

  CodecState(const CodecStack& stack, int rows)
      : queries(rows * stack.dim), heard(rows * stack.dim), inner(rows * stack.ffn) {}
};

// BLOCK rows of a weight [outputs, inputs], starting at `first`, times COUNT rows of x.
template <int COUNT> void multiply(const float* weight, int first, int inputs, const float* x, Floats* outputs) {
  const float* from = weight + size_t(first) * inputs;
  for (int output = 0; output < BLOCK; output++, from += inputs) {
    Floats sums[COUNT] = {};
    for (int i = 0; i < inputs; i += BLOCK) {
      __builtin_prefetch(from + i + AHEAD / sizeof(float));
      const Floats weights = load<Floats>(from + i);
      for (int row = 0; row < COUNT; row++) sums[row] += weights * load<Floats>(x + row * inputs + i);
    }
    for (int row = 0; row < COUNT; row++) {
      float sum = 0;
      for (int i = 0; i < BLOCK; i++) sum += sums[row][i];
      outputs[row][output] = sum;
    }
  }
}

// Calls put(row, outputs) for all rows of x.
template <typename Put>
void multiply(const float* weight, int block, int inputs, const float* x, int rows, const Put& put) {
  Floats outputs[2];
  for (int row = 0; row < rows; row += 2) {
    const int count = std::min(2, rows - row);
    if (count == 2)
      multiply<2>(weight, block * BLOCK, inputs, x + row * inputs, outputs);
    else
      multiply<1>(weight, block * BLOCK, inputs, x + row * inputs, outputs);
    for (int i = 0; i < count; i++) put(row + i, outputs[i]);
  }
}

void normalise(const float* x, int rows, int dim, const float* weight, const float* bias, float eps, float* to) {
  for (int row = 0; row < rows; row++, x += dim, to += dim) {
    float mean = 0, variance = 0;
    for (int i = 0; i < dim; i++) mean += x[i] / dim;
    for (int i = 0; i < dim; i++) variance += (x[i] - mean) * (x[i] - mean) / dim;
    const float factor = 1 / std::sqrt(variance + eps);
    for (int i = 0; i < dim; i++) to[i] = (x[i] - mean) * factor * weight[i] + bias[i];
  }
}

// Attention of one head of one row over `count` places of a ring, starting at `first`.
void hear(const float* query, const float* keys, const float* values, int first, int count, int length, int size,
          float* weights, float* to) {
  const auto each = [&](const auto& work) {
    for (int i = 0, place = first; i < count; i++, place = place + 1 == length ? 0 : place + 1) work(i, place * size);
  };
  float largest = -INFINITY, total = 0;
  each([&](int at, int place) {
    float sum = 0;
    for (int i = 0; i < size; i++) sum += query[i] * keys[place + i];
    weights[at] = sum / std::sqrt(float(size));
    largest = std::max(largest, weights[at]);
  });
  for (int at = 0; at < count; at++) total += weights[at] = exponential(weights[at] - largest);
  std::fill(to, to + size, 0.0f);
  each([&](int at, int place) {
    for (int i = 0; i < size; i++) to[i] += weights[at] / total * values[place + i];
  });
}

void run_codec(const CodecStack& stack, float* x, int batch, int steps, const int64_t* positions, float* ring,
               int length, CodecState& state, Team& team) {
  const int dim = stack.dim, heads = stack.heads, size = dim / heads, rows = batch * steps;
  const size_t of_sequence = size_t(heads) * length * size;
  std::vector<float> normalised(rows * dim), weights(stack.window), turns(rows * size);
  const auto position = [&](int row) { return positions[row / steps] + row % steps; };
  for (int row = 0; row < rows; row++) {
    for (int pair = 0; pair < size / 2; pair++) {
      const float angle = float(position(row)) * stack.frequencies[pair];
      turns[row * size + 2 * pair] = std::cos(angle);
      turns[row * size + 2 * pair + 1] = std::sin(angle);
    }
  }
  const auto add = [&](const float* weight, int block, int inputs, const float* from, const float* scale) {
    multiply(weight, block, inputs, from, rows, [&](int row, const Floats& outputs) {
      for (int i = block * BLOCK, j = 0; j < BLOCK; i++, j++) x[row * dim + i] += scale[i] * outputs[j];
    });
  };

  for (int number = 0; number < stack.count; number++) {
    const CodecLayer& layer = stack.layers[number];
    float* keys = ring + 2 * number * batch * of_sequence;
    float* values = keys + batch * of_sequence;
    normalise(x, rows, dim, layer.norm1, layer.norm1_bias, stack.eps, normalised.data());
    team.share(3 * dim / BLOCK, [&](int block) {
      multiply(layer.in_proj, block, dim, normalised.data(), rows, [&](int row, const Floats& outputs) {
        for (int i = 0; i < BLOCK; i += 2) {
          const int part = (block * BLOCK + i) / dim, at = (block * BLOCK + i) % dim;
          const float* turn = &turns[row * size + at % size];
          float pair[2] = {outputs[i], outputs[i + 1]};
          if (part < 2) {
            pair[0] = outputs[i] * turn[0] - outputs[i + 1] * turn[1];
            pair[1] = outputs[i + 1] * turn[0] + outputs[i] * turn[1];
          }
          const size_t entry = row / steps * of_sequence + (at / size * length + position(row) % length) * size;
          float* to = part == 0 ? &state.queries[row * dim + at] : (part == 1 ? keys : values) + entry + at % size;
          std::memcpy(to, pair, sizeof pair);
        }
      });
    });
    team.share(rows * heads, [&](int item) {
      const int row = item / heads, head = item % heads, at = row * dim + head * size;
      const size_t from = row / steps * of_sequence + size_t(head) * length * size;
      const int64_t count = std::min<int64_t>(position(row) + 1, stack.window), first = position(row) + 1 - count;
      hear(&state.queries[at], keys + from, values + from, int(first % length), int(count), length, size,
           weights.data(), &state.heard[at]);
    });
    team.share(dim / BLOCK, [&](int block) { add(layer.out_proj, block, dim, state.heard.data(), layer.scale1); });
    normalise(x, rows, dim, layer.norm2, layer.norm2_bias, stack.eps, normalised.data());
    team.share(stack.ffn / BLOCK, [&](int block) {
      multiply(layer.linear1, block, dim, normalised.data(), rows, [&](int row, const Floats& outputs) {
        for (int i = 0; i < BLOCK; i++)  // GELU
          state.inner[row * stack.ffn + block * BLOCK + i] =
              outputs[i] / 2 * (1 + std::erf(outputs[i] * 0.70710678f));
      });
    });
    team.share(dim / BLOCK, [&](int block) {
      add(layer.linear2, block, stack.ffn, state.inner.data(), layer.scale2);
    });
  }
}

}  // namespace
