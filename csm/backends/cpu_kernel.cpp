// A transformer stack, and a whole frame of the depth decoder, on weights of 4 or 8 bits, each in one call. This
// approaches a CPU's limit, which is reading the weights.
//
// Built on the user's machine for its processor (csm/backends/cpu_kernel.py). The threads of a team run through the
// layers together and meet at a barrier after each matrix.

#include <functional>

#include "cpu_codec.h"
#include "cpu_matrix.h"
#include "cpu_team.h"

extern "C" {

struct Layer {
  Linear qkv, output, gate_up, down;  // gate and up alternate, 16 outputs of each
  const float *attention_norm, *mlp_norm;
};

struct Stack {
  const Layer* layers;
  const float* norm;
  int32_t count, dim, heads, kv_heads, head_dim, ffn;
  float eps;
};

struct Cache {
  uint16_t* entries;  // bfloat16 [layers, 2, sequences, kv_heads, length, head_dim], strides in entries
  const float* rope;  // [length, head_dim / 2, 2], cosine and sine
  int64_t layer_stride, value_stride, sequence_stride, head_stride;
};

struct DepthDecoder {
  Stack decoder;
  Linear projection;
  const Linear* heads;         // [codebooks], the first for the backbone's hidden state
  const uint16_t* embeddings;  // bfloat16 [codebooks · vocabulary, dim]
  int32_t codebooks, vocabulary, codes, dim;
};

}

namespace {

// Attention of one head of one row over all positions up to its own. The result overwrites `query`.
void attend(float* query, const uint16_t* keys, const uint16_t* values, int64_t positions, int size, float* weights) {
  const float scale = 1 / std::sqrt(float(size));
  float largest = -INFINITY, total = 0;
  for (int64_t p = 0; p < positions; p++) {
    float sum = 0;
    for (int i = 0; i < size; i++) sum += query[i] * from_bfloat16(keys[p * size + i]);
    weights[p] = sum * scale;
    largest = std::max(largest, weights[p]);
  }
  for (int64_t p = 0; p < positions; p++) total += weights[p] = exponential(weights[p] - largest);
  std::fill(query, query + size, 0.0f);
  for (int64_t p = 0; p < positions; p++)
    for (int i = 0; i < size; i++) query[i] += weights[p] / total * from_bfloat16(values[p * size + i]);
}

// Rotates a block of queries and keys, and stores it or a block of values where it belongs.
void place(const Stack& stack, const Cache& cache, int layer, int block, const int64_t sequence, int64_t position,
           const Floats& outputs, float* queries) {
  const int size = stack.head_dim, query_heads = stack.heads, heads = stack.heads + stack.kv_heads;
  for (int i = 0; i < BLOCK; i += 2) {
    const int output = block * BLOCK + i, at = output % size;
    int head = output / size;
    float pair[2] = {outputs[i], outputs[i + 1]};
    if (head < heads) {
      const float* rope = cache.rope + position * size + at;
      const float real = pair[0] * rope[0] - pair[1] * rope[1];
      pair[1] = pair[0] * rope[1] + pair[1] * rope[0];
      pair[0] = real;
    }
    if (head < query_heads) {
      std::memcpy(queries + output, pair, sizeof pair);
      continue;
    }
    head -= query_heads;
    const int64_t value = head >= stack.kv_heads;
    head -= value * stack.kv_heads;
    uint16_t* entry = cache.entries + layer * cache.layer_stride + value * cache.value_stride +
                      sequence * cache.sequence_stride + head * cache.head_stride + position * size + at;
    for (int j = 0; j < 2; j++) entry[j] = to_bfloat16(pair[j]);
  }
}

void run_layers(const Stack& stack, float* x, int rows, const int64_t* sequences, const int64_t* positions,
                const Cache& cache, float* queries, float* wide, Team& team) {
  const int dim = stack.dim, size = stack.head_dim, attention_dim = stack.heads * size;
  const int64_t longest = *std::max_element(positions, positions + rows) + 1;
  Rounded rounded(rows, std::max({dim, attention_dim, stack.ffn}));
  std::vector<float> weights(longest);
  Floats first[ROWS], second[ROWS];

  const auto add = [&](const Linear& linear, int block) {
    multiply_block(linear, block, rounded, rows, first);
    for (int row = 0; row < rows; row++)
      for (int i = 0; i < BLOCK; i++) x[row * dim + block * BLOCK + i] += first[row][i];
  };

  for (int number = 0; number < stack.count; number++) {
    const Layer& layer = stack.layers[number];
    // Every thread rounds the activations itself: that costs less than waiting for one thread to do it.
    rounded.take(x, rows, dim, layer.attention_norm, stack.eps);
    team.share(layer.qkv.outputs / BLOCK, [&](int block) {
      multiply_block(layer.qkv, block, rounded, rows, first);
      for (int row = 0; row < rows; row++)
        place(stack, cache, number, block, sequences[row], positions[row], first[row], queries + row * attention_dim);
    });
    team.share(rows * stack.heads, [&](int item) {
      const int row = item / stack.heads, head = item % stack.heads;
      const uint16_t* keys = cache.entries + number * cache.layer_stride + sequences[row] * cache.sequence_stride +
                             head / (stack.heads / stack.kv_heads) * cache.head_stride;
      float* query = queries + row * attention_dim + head * size;
      attend(query, keys, keys + cache.value_stride, positions[row] + 1, size, weights.data());
    });
    rounded.take(queries, rows, attention_dim);
    team.share(dim / BLOCK, [&](int block) { add(layer.output, block); });
    rounded.take(x, rows, dim, layer.mlp_norm, stack.eps);
    team.share(stack.ffn / BLOCK, [&](int block) {
      multiply_block(layer.gate_up, 2 * block, rounded, rows, first);
      multiply_block(layer.gate_up, 2 * block + 1, rounded, rows, second);
      for (int row = 0; row < rows; row++) {
        float* to = wide + row * stack.ffn + block * BLOCK;
        for (int i = 0; i < BLOCK; i++) to[i] = first[row][i] / (1 + exponential(-first[row][i])) * second[row][i];
      }
    });
    rounded.take(wide, rows, stack.ffn);
    team.share(dim / BLOCK, [&](int block) { add(layer.down, block); });
  }
  team.share(rows, [&](int row) {
    float* at = x + row * dim;
    const float factor = Rounded::root_mean_square(at, dim, stack.eps);
    for (int i = 0; i < dim; i++) at[i] *= factor * stack.norm[i];
  });
}

float largest_but(std::vector<float>& values, int others) {
  std::nth_element(values.begin(), values.begin() + others, values.end(), std::greater<float>());
  return values[others];
}

// The topk-th largest logit; count must exceed topk.
float least_of(const float* logits, int count, int topk) {
  // Narrows the search: topk blocks hold a logit of at least this bound, so nothing below it is among the largest.
  std::vector<float> most, ordered;
  for (int first = 0; first + BLOCK <= count; first += BLOCK)
    most.push_back(*std::max_element(logits + first, logits + first + BLOCK));
  const float bound = topk <= int(most.size()) ? largest_but(most, topk - 1) : -INFINITY;
  for (int code = 0; code < count; code++)
    if (logits[code] >= bound) ordered.push_back(logits[code]);
  return topk <= int(ordered.size()) ? largest_but(ordered, topk - 1) : bound;
}

// argmax(logits − temperature · log noise) over the `topk` largest: csm/sampling.py. Greedy without noise.
int64_t choose(const float* logits, int count, const float* noise, float temperature, int topk) {
  const float least = noise && topk < count ? least_of(logits, count, topk) : -INFINITY;
  float best = -INFINITY;
  int64_t chosen = 0;
  for (int code = 0; code < count; code++) {
    if (logits[code] < least) continue;
    const float score = noise ? logits[code] - temperature * std::log(noise[code]) : logits[code];
    if (score > best) best = score, chosen = code;
  }
  return chosen;
}

// How codes are chosen, separately for each sequence: noise [count, codebooks, codes], or null to be greedy.
struct Choice {
  const float *noise, *temperature;
  const int64_t* topk;
};

// The buffers of the depth decoder for `count` sequences, shared by the threads of a team.
struct DepthState {
  std::vector<float> heard;     // [count, 2, dim]: the hidden state, and the embedding of the first code
  std::vector<float> newest;    // [count, dim]: the embedding of the newest code
  std::vector<float> x, last;   // [2 count, depth]: through the layers; [count, depth]: the last row's output
  std::vector<float> logits;    // [count, codes]
  std::vector<float> queries, wide;
};

// csm.model.Csm.frame, by one thread of the team. Sequences are computed together: a weight is read once for all.
void depth_decode(const DepthDecoder& model, const Cache& cache, const float* hidden, int count, const Choice& choice,
                  int64_t* codes, DepthState& state, Team& team) {
  const int dim = model.dim, depth = model.decoder.dim;
  int64_t sequences[ROWS], positions[ROWS];
  Rounded rounded(2 * count, std::max(dim, depth));

  const auto multiply_into = [&](const Linear& linear, const float* from, int rows, float* to, int width) {
    rounded.take(from, rows, linear.inputs);
    team.share(linear.outputs / BLOCK, [&](int block) {
      Floats outputs[ROWS];
      multiply_block(linear, block, rounded, rows, outputs);
      const int size = std::min(BLOCK, width - block * BLOCK);
      for (int row = 0; row < rows && size > 0; row++) {
        std::memcpy(to + row * width + block * BLOCK, &outputs[row], size * sizeof(float));
        through_bfloat16(to + row * width + block * BLOCK, size);
      }
    });
  };
  const auto judge = [&](const float* states, int codebook) {
    multiply_into(model.heads[codebook], states, count, state.logits.data(), model.codes);
    team.share(count, [&](int sequence) {
      const size_t at = size_t(sequence) * model.codebooks + codebook;
      const float* draws = choice.noise ? choice.noise + at * model.codes : nullptr;
      codes[at] = choose(state.logits.data() + size_t(sequence) * model.codes, model.codes, draws,
                         choice.temperature[sequence], choice.topk[sequence]);
      const uint16_t* row = model.embeddings + size_t(codebook * model.vocabulary + codes[at]) * dim;
      float* to = codebook == 0 ? &state.heard[(2 * sequence + 1) * dim] : &state.newest[sequence * dim];
      for (int i = 0; i < dim; i++) to[i] = from_bfloat16(row[i]);
    });
  };

  judge(hidden, 0);
  for (int codebook = 1; codebook < model.codebooks; codebook++) {
    const int each = codebook == 1 ? 2 : 1, rows = each * count;
    for (int row = 0; row < rows; row++) {
      sequences[row] = row / each;
      positions[row] = codebook + 1 - each + row % each;
    }
    multiply_into(model.projection, (each == 2 ? state.heard : state.newest).data(), rows, state.x.data(), depth);
    run_layers(model.decoder, state.x.data(), rows, sequences, positions, cache, state.queries.data(),
               state.wide.data(), team);
    team.share(count, [&](int sequence) {
      float* last = &state.last[sequence * depth];
      std::memcpy(last, &state.x[(each * sequence + each - 1) * depth], depth * sizeof(float));
      through_bfloat16(last, depth);
    });
    judge(state.last.data(), codebook);
  }
}

}  // namespace

extern "C" {

const char* csm_instructions() { return INSTRUCTIONS; }

// Runs x [batch · steps, dim] through the codec's transformer, in place; `positions` are those of the sequences' first
// steps. ring [layers, 2, batch, heads, length, head_dim]: keys and values of the last `length` positions.
void csm_codec(const CodecStack* stack, float* x, int batch, int steps, const int64_t* positions, float* ring,
               int length, int threads) {
  CodecState state(*stack, batch * steps);
  with_team(threads, [&](Team& team) { run_codec(*stack, x, batch, steps, positions, ring, length, state, team); });
}

// y [rows, outputs] = x [rows, inputs] times the matrix.
void csm_linear(const Linear* linear, const float* x, int rows, float* y, int threads) {
  for (int first = 0; first < rows; first += ROWS) {
    const int count = std::min(ROWS, rows - first);
    Rounded rounded(count, linear->inputs);
    rounded.take(x + size_t(first) * linear->inputs, count, linear->inputs);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int block = 0; block < linear->outputs / BLOCK; block++) {
      Floats outputs[ROWS];
      multiply_block(*linear, block, rounded, count, outputs);
      for (int row = 0; row < count; row++)
        std::memcpy(y + size_t(first + row) * linear->outputs + block * BLOCK, &outputs[row], sizeof(Floats));
    }
  }
}

// Runs x [rows, dim] through the stack, in place. Each row has its sequence and position; earlier rows come first.
void csm_stack(const Stack* stack, float* x, int rows, const int64_t* sequences, const int64_t* positions,
               const Cache* cache, int threads) {
  for (int first = 0; first < rows; first += ROWS) {
    const int count = std::min(ROWS, rows - first);
    std::vector<float> queries(size_t(count) * stack->heads * stack->head_dim), wide(size_t(count) * stack->ffn);
    with_team(threads, [&](Team& team) {
      run_layers(*stack, x + size_t(first) * stack->dim, count, sequences + first, positions + first, *cache,
                 queries.data(), wide.data(), team);
    });
  }
}

// One frame per sequence: codes [count, codebooks] that follow hidden [count, dim], for up to ROWS / 2 sequences.
// noise: Exp(1) draws [count, codebooks, codes], or null to be greedy; temperature and topk [count].
void csm_depth_decode(const DepthDecoder* model, const Cache* cache, const float* hidden, int count, const float* noise,
                      const float* temperature, const int64_t* topk, int64_t* codes, int threads) {
  const Stack& stack = model->decoder;
  const size_t n = count, dim = model->dim, depth = stack.dim, rows = 2 * n;
  DepthState state = {
      .heard = std::vector<float>(rows * dim),
      .newest = std::vector<float>(n * dim),
      .x = std::vector<float>(rows * depth),
      .last = std::vector<float>(n * depth),
      .logits = std::vector<float>(n * model->codes),
      .queries = std::vector<float>(rows * stack.heads * stack.head_dim),
      .wide = std::vector<float>(rows * stack.ffn),
  };
  for (size_t sequence = 0; sequence < n; sequence++)
    std::copy(hidden + sequence * dim, hidden + (sequence + 1) * dim, &state.heard[2 * sequence * dim]);
  with_team(threads, [&](Team& team) {
    depth_decode(*model, *cache, hidden, count, {noise, temperature, topk}, codes, state, team);
  });
}

}
