// A transformer stack, and a whole frame of the depth decoder, on weights of 4 or 8 bits, each in one call: the way to a
// CPU's limit, which is reading the weights.
//
// Built on the user's machine for its processor (csm/cpu_kernel.py). Weights lie in blocks of 16 outputs. Within a
// block four inputs of all 16 outputs follow each other (64 bytes, one AVX-512 register); with 4 bits a byte holds an
// input and the one four further on. Every 64 inputs of an output share a bfloat16 scale. Activations are rounded to
// 8 bits, likewise with a scale for each 64, so that products are those of whole numbers.
//
// The threads of a team run through the layers together and meet at a barrier after each matrix.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <omp.h>
#include <sched.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int BLOCK = 16;  // outputs side by side
constexpr int GROUP = 64;  // inputs that share a scale
constexpr int ROWS = 48;   // rows taken through the stack at a time

using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));

template <typename To, typename From> To as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <typename T> T load(const void* from) {
  T to;
  std::memcpy(&to, from, sizeof to);
  return to;
}

inline float from_bfloat16(uint16_t x) { return as<float>(uint32_t(x) << 16); }

inline uint16_t to_bfloat16(float x) {
  const uint32_t bits = as<uint32_t>(x);
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

// Modules speak bfloat16 to each other; where they are one call, their results are rounded all the same.
inline void through_bfloat16(float* x, int count) {
  for (int i = 0; i < count; i++) x[i] = from_bfloat16(to_bfloat16(x[i]));
}

// e^x as 2^whole · 2^part, the part by its Taylor series: to 2e-7, and fit to be vectorised.
inline float exponential(float x) {
  x = std::max(-87.0f, std::min(87.0f, x)) * 1.44269504f;
  const float whole = std::nearbyint(x), part = x - whole;
  float power = 1.54035304e-4f;
  for (float term : {1.33335581e-3f, 9.61812911e-3f, 5.55041087e-2f, 2.40226507e-1f, 6.93147181e-1f, 1.0f})
    power = power * part + term;
  return power * as<float>((int32_t(whole) + 127) << 23);
}

// What unsigned codes are above their value. Where whole numbers multiply as unsigned by signed, 8 bits are moved up.
#if (defined(__AVX512F__) && defined(__AVX512VNNI__)) || defined(__AVXVNNI__)
constexpr int OFFSET_8 = 128;
#else
constexpr int OFFSET_8 = 0;
#endif
template <int BITS> constexpr int OFFSET = BITS == 4 ? 8 : OFFSET_8;

// sums[i] += the four weights of output i times the four activations.
template <int BITS> inline Ints dot(Ints sums, Ints weights, int32_t activations) {
  if (BITS == 8 && OFFSET_8) weights ^= int32_t(0x80808080);
#if defined(__AVX512F__) && defined(__AVX512VNNI__)
  return Ints(_mm512_dpbusd_epi32(__m512i(sums), __m512i(weights), _mm512_set1_epi32(activations)));
#elif defined(__AVX2__)
  __m256i w[2], sum[2];
  const __m256i a = _mm256_set1_epi32(activations);
  std::memcpy(w, &weights, sizeof w);
  std::memcpy(sum, &sums, sizeof sum);
  for (int half = 0; half < 2; half++) {
#if defined(__AVXVNNI__)
    sum[half] = _mm256_dpbusd_avx_epi32(sum[half], w[half], a);
#else
    // Pairs are added in 16 bits: 2 · 15 · 127 and 2 · 127 · 127 fit.
    const __m256i pairs = BITS == 4 ? _mm256_maddubs_epi16(w[half], a)
                                    : _mm256_maddubs_epi16(_mm256_abs_epi8(w[half]), _mm256_sign_epi8(a, w[half]));
    sum[half] = _mm256_add_epi32(sum[half], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }
  return load<Ints>(sum);
#else
  int8_t w[64], a[4];
  std::memcpy(w, &weights, sizeof w);
  std::memcpy(a, &activations, sizeof a);
  for (int output = 0; output < BLOCK; output++)
    for (int input = 0; input < 4; input++) sums[output] += w[4 * output + input] * a[input];
  return sums;
#endif
}

}  // namespace

extern "C" {

struct Linear {
  const uint8_t* codes;    // [outputs / 16, groups, 64 · 16 · bits / 8]
  const uint16_t* scales;  // bfloat16 [outputs / 16, groups, 16]
  int32_t outputs, inputs, bits;
};

struct Layer {
  Linear qkv, output, gate_up, down;  // gate and up by turns, 16 outputs of each
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

struct Speller {
  Stack decoder;
  Linear projection;
  const Linear* heads;         // [codebooks], the first for the backbone's hidden state
  const uint16_t* embeddings;  // bfloat16 [codebooks · vocabulary, dim]
  int32_t codebooks, vocabulary, codes, dim;
};

}

namespace {

int groups(int inputs) { return (inputs + GROUP - 1) / GROUP; }

// Rows of activations in 8 bits.
struct Rounded {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
  int groups_a_row = 0;

  Rounded(int rows, int inputs)
      : codes(rows * groups(inputs) * GROUP), scales(rows * groups(inputs)), sums(rows * groups(inputs)) {}

  // Takes x [rows, inputs], normed (RMSNorm) if a norm is given.
  void take(const float* x, int rows, int inputs, const float* norm = nullptr, float eps = 0) {
    groups_a_row = groups(inputs);
    for (int row = 0; row < rows; row++, x += inputs) {
      const float factor = norm ? root_mean_square(x, inputs, eps) : 1;
      for (int group = 0; group < groups_a_row; group++) {
        const int first = group * GROUP, size = std::min(GROUP, inputs - first);
        float values[GROUP] = {}, largest = 0;
        for (int i = 0; i < size; i++) values[i] = norm ? x[first + i] * factor * norm[first + i] : x[first + i];
        for (int i = 0; i < GROUP; i++) largest = std::max(largest, std::fabs(values[i]));
        const float inverse = largest > 0 ? 127 / largest : 0;
        int8_t* code = &codes[(row * groups_a_row + group) * GROUP];
        int32_t sum = 0;
        for (int i = 0; i < GROUP; i++) {
          const int32_t whole = int32_t(std::nearbyint(values[i] * inverse));
          code[i] = int8_t(whole);
          sum += whole;
        }
        scales[row * groups_a_row + group] = largest / 127;
        sums[row * groups_a_row + group] = sum;
      }
    }
  }

  static float root_mean_square(const float* x, int size, float eps) {
    float sum = 0;
    for (int i = 0; i < size; i++) sum += x[i] * x[i];
    return 1 / std::sqrt(sum / size + eps);
  }
};

// 16 outputs of COUNT rows at once: each weight is unpacked once and used for all of them.
template <int BITS, int COUNT>
inline void multiply(const Linear& linear, int block, const Rounded& rounded, int row, Floats* outputs) {
  const int count = rounded.groups_a_row;
  const uint8_t* codes = linear.codes + size_t(block) * count * GROUP * BLOCK * BITS / 8;
  const uint16_t* scale = linear.scales + size_t(block) * count * BLOCK;
  const int8_t* activations = rounded.codes.data() + size_t(row) * count * GROUP;
  const float* scales = rounded.scales.data() + row * count;
  const int32_t* sums = rounded.sums.data() + row * count;
  for (int r = 0; r < COUNT; r++) outputs[r] = Floats{};
  for (int group = 0; group < count; group++, scale += BLOCK) {
    // Two sums, so that one product need not wait for the other.
    Ints even[COUNT], odd[COUNT];
    for (int r = 0; r < COUNT; r++) {
      even[r] = Ints{} - OFFSET<BITS> * sums[r * count + group];
      odd[r] = Ints{};
    }
#pragma GCC unroll 8
    for (int input = 0; input < GROUP; input += 8) {
      Ints first = load<Ints>(codes), second;
      if (BITS == 4) {
        second = (first >> 4) & 0x0f0f0f0f;
        first &= 0x0f0f0f0f;
      } else {
        second = load<Ints>(codes + 64);
      }
      codes += 16 * BITS;
      for (int r = 0; r < COUNT; r++) {
        const int8_t* a = activations + (size_t(r) * count + group) * GROUP + input;
        even[r] = dot<BITS>(even[r], first, load<int32_t>(a));
        odd[r] = dot<BITS>(odd[r], second, load<int32_t>(a + 4));
      }
    }
    using Halves = uint16_t __attribute__((vector_size(32)));
    const Floats weight = as<Floats>(Ints(__builtin_convertvector(load<Halves>(scale), Ints) << 16));
    for (int r = 0; r < COUNT; r++)
      outputs[r] += __builtin_convertvector(even[r] + odd[r], Floats) * (weight * scales[r * count + group]);
  }
}

template <int BITS> void multiply_rows(const Linear& linear, int block, const Rounded& x, int rows, Floats* outputs) {
#if defined(__AVX512F__)
  constexpr int MANY = 6;  // as many as there are registers for
#else
  constexpr int MANY = 2;
#endif
  int row = 0;
  for (; row + MANY <= rows; row += MANY) multiply<BITS, MANY>(linear, block, x, row, outputs + row);
  for (; row < rows; row++) multiply<BITS, 1>(linear, block, x, row, outputs + row);
}

void multiply_block(const Linear& linear, int block, const Rounded& x, int rows, Floats* outputs) {
  if (linear.bits == 4)
    multiply_rows<4>(linear, block, x, rows, outputs);
  else
    multiply_rows<8>(linear, block, x, rows, outputs);
}

// Threads that share out the work of a phase and wait for each other at its end.
//
// OpenMP's own barrier spins on; on a machine that has other work to do, that keeps the very thread that is waited for
// off its core, and a frame takes seconds. And who was kept away leaves its share to the others.
class Team {
 public:
  explicit Team(int size) : size_(size) {}

  template <typename Work> void share(int count, const Work& work) {
    const int some = std::max(1, count / (8 * size_));
    std::atomic<int>& next = next_[phase_.load(std::memory_order_relaxed) % 2];
    for (int first; (first = next.fetch_add(some, std::memory_order_relaxed)) < count;)
      for (int item = first; item < std::min(count, first + some); item++) work(item);
    wait();
  }

 private:
  void wait() {
    const int phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      next_[phase % 2].store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int turn = 0; phase_.load(std::memory_order_acquire) == phase; turn++) {
      if (turn > 1000) sched_yield();
#if defined(__x86_64__)
      else _mm_pause();
#endif
    }
  }

  const int size_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
  alignas(64) std::atomic<int> next_[2] = {{0}, {0}};
};

// Runs `work(team)` in each of up to `threads` threads.
template <typename Work> void with_team(int threads, const Work& work) {
  std::unique_ptr<Team> team;
#pragma omp parallel num_threads(threads)
  {
#pragma omp single
    team = std::make_unique<Team>(omp_get_num_threads());
    work(*team);
  }
}

// One head of one row hears all positions up to its own. `query` becomes what was heard.
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

// A block of rotated queries and keys, and of values, to where they belong.
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
    // Every thread rounds the activations for itself: that costs less than waiting for one to do it.
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

// argmax(logits − temperature · log noise) over the `topk` largest: csm/sampling.py. Greedy without noise.
int64_t choose(const float* logits, int count, const float* noise, float temperature, int topk) {
  float least = -INFINITY;
  if (noise && topk < count) {
    std::vector<float> ordered(logits, logits + count);
    std::nth_element(ordered.begin(), ordered.begin() + topk - 1, ordered.end(), std::greater<float>());
    least = ordered[topk - 1];
  }
  float best = -INFINITY;
  int64_t chosen = 0;
  for (int code = 0; code < count; code++) {
    if (logits[code] < least) continue;
    const float score = noise ? logits[code] - temperature * std::log(noise[code]) : logits[code];
    if (score > best) best = score, chosen = code;
  }
  return chosen;
}

// csm.model.Csm.frame, by one thread of the team.
void spell(const Speller& speller, const Cache& cache, const float* noise, float temperature, int topk, int64_t* codes,
           float* heard, float* x, float* logits, float* queries, float* wide, Team& team) {
  const int dim = speller.dim, depth = speller.decoder.dim;
  const int64_t sequences[2] = {0, 0};
  Rounded rounded(2, std::max(dim, depth));

  const auto multiply_into = [&](const Linear& linear, const float* from, int rows, float* to, int width) {
    rounded.take(from, rows, linear.inputs);
    team.share(linear.outputs / BLOCK, [&](int block) {
      Floats outputs[2];
      multiply_block(linear, block, rounded, rows, outputs);
      const int count = std::min(BLOCK, width - block * BLOCK);
      for (int row = 0; row < rows && count > 0; row++) {
        std::memcpy(to + row * width + block * BLOCK, &outputs[row], count * sizeof(float));
        through_bfloat16(to + row * width + block * BLOCK, count);
      }
    });
  };
  // `heard` holds two rows: the backbone's hidden state, and the embedding of the newest code.
  const auto judge = [&](const float* state, int codebook) {
    multiply_into(speller.heads[codebook], state, 1, logits, speller.codes);
    team.share(1, [&](int) {
      const float* draws = noise ? noise + size_t(codebook) * speller.codes : nullptr;
      codes[codebook] = choose(logits, speller.codes, draws, temperature, topk);
      const uint16_t* row = speller.embeddings + size_t(codebook * speller.vocabulary + codes[codebook]) * dim;
      for (int i = 0; i < dim; i++) heard[dim + i] = from_bfloat16(row[i]);
    });
  };

  judge(heard, 0);
  for (int codebook = 1; codebook < speller.codebooks; codebook++) {
    const int rows = codebook == 1 ? 2 : 1;
    const int64_t positions[2] = {codebook + 1 - rows, codebook};
    multiply_into(speller.projection, heard + (2 - rows) * dim, rows, x, depth);
    run_layers(speller.decoder, x, rows, sequences, positions, cache, queries, wide, team);
    team.share(1, [&](int) { through_bfloat16(x + (rows - 1) * depth, depth); });
    judge(x + (rows - 1) * depth, codebook);
  }
}

}  // namespace

extern "C" {

// y [rows, outputs] = x [rows, inputs] through the matrix.
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

// x [rows, dim] through the whole stack, in place; each row at its position of its sequence, earlier rows first.
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

// A frame: codes [codebooks] that follow hidden [dim]. noise: Exp(1) draws [codebooks, codes], or null to be greedy.
void csm_spell(const Speller* speller, const Cache* cache, const float* hidden, const float* noise, float temperature,
               int topk, int64_t* codes, int threads) {
  const Stack& stack = speller->decoder;
  std::vector<float> heard(2 * speller->dim), x(2 * stack.dim), logits(speller->codes);
  std::vector<float> queries(2 * stack.heads * stack.head_dim), wide(2 * stack.ffn);
  std::copy(hidden, hidden + speller->dim, heard.begin());
  with_team(threads, [&](Team& team) {
    spell(*speller, *cache, noise, temperature, topk, codes, heard.data(), x.data(), logits.data(), queries.data(),
          wide.data(), team);
  });
}

}
