// Matrices of 4 or 8 bits, and their product with rows of activations.
//
// Weights lie in blocks of 16 outputs. Within a block, four inputs of all 16 outputs follow each other (64 bytes, one
// AVX-512 register). With 4 bits, a byte holds an input and the one four inputs later. Every 64 inputs of an output
// share a bfloat16 scale. Activations are rounded to 8 bits, also with one scale for each 64, so that the products are
// integer products.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

namespace {

constexpr int BLOCK = 16;  // outputs side by side
constexpr int GROUP = 64;  // inputs that share a scale
constexpr int AHEAD = 4096;  // bytes of weights to prefetch ahead
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

// Modules pass bfloat16 to each other. Where several are one call, their results are rounded all the same.
inline void through_bfloat16(float* x, int count) {
  for (int i = 0; i < count; i++) x[i] = from_bfloat16(to_bfloat16(x[i]));
}

// e^x as 2^whole · 2^part, where 2^part is a Taylor series: accurate to 2e-7, and vectorisable.
inline float exponential(float x) {
  x = std::max(-87.0f, std::min(87.0f, x)) * 1.44269504f;
  const float whole = std::nearbyint(x), part = x - whole;
  float power = 1.54035304e-4f;
  for (float term : {1.33335581e-3f, 9.61812911e-3f, 5.55041087e-2f, 2.40226507e-1f, 6.93147181e-1f, 1.0f})
    power = power * part + term;
  return power * as<float>((int32_t(whole) + 127) << 23);
}

// The offset of unsigned codes from their values. Where the instruction multiplies unsigned by signed integers, 8-bit
// codes are shifted up.
#if (defined(__AVX512F__) && defined(__AVX512VNNI__)) || defined(__AVXVNNI__)
constexpr int OFFSET_8 = 128;
#else
constexpr int OFFSET_8 = 0;
#endif
// The name of the instructions that compute the products.
#if defined(__AVX512F__) && defined(__AVX512VNNI__)
constexpr const char* INSTRUCTIONS = "AVX-512 VNNI";
#elif defined(__AVX2__) && defined(__AVXVNNI__)
constexpr const char* INSTRUCTIONS = "AVX-VNNI";
#elif defined(__AVX2__)
constexpr const char* INSTRUCTIONS = "AVX2";
#elif defined(__ARM_FEATURE_DOTPROD)
constexpr const char* INSTRUCTIONS = "ARM dot products";
#else
constexpr const char* INSTRUCTIONS = "no instructions of its own";
#endif
// Where integer products do not overflow on the way, a byte’s upper half is multiplied in place, as 16 times its value.
#if (defined(__AVX512F__) && defined(__AVX512VNNI__)) || defined(__AVXVNNI__)
constexpr int RAISED = 4;
#else
constexpr int RAISED = 0;
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
#elif defined(__ARM_FEATURE_DOTPROD)
  int8x16_t w[4];
  int32x4_t sum[4];
  const int8x16_t a = vreinterpretq_s8_s32(vdupq_n_s32(activations));
  std::memcpy(w, &weights, sizeof w);
  std::memcpy(sum, &sums, sizeof sum);
  for (int quarter = 0; quarter < 4; quarter++) sum[quarter] = vdotq_s32(sum[quarter], w[quarter], a);
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

  // Rounds x [rows, inputs], after RMSNorm if a norm is given.
  void take(const float* x, int rows, int inputs, const float* norm = nullptr, float eps = 0) {
    groups_a_row = groups(inputs);
    for (int row = 0; row < rows; row++, x += inputs) {
      const float factor = norm ? root_mean_square(x, inputs, eps) : 1;
      for (int group = 0; group < groups_a_row; group++) {
        const float* from = x + group * GROUP;
        const int size = std::min(GROUP, inputs - group * GROUP);
        float values[GROUP];
        if (size < GROUP) std::fill(values, values + GROUP, 0.0f);
        if (norm)
          each(size, [&](int i) { values[i] = from[i] * factor * norm[group * GROUP + i]; });
        else
          each(size, [&](int i) { values[i] = from[i]; });
        // Magnitudes of floats compare like integers, and integer comparisons vectorise.
        int32_t bits = 0;
        for (int i = 0; i < GROUP; i++) bits = std::max(bits, as<int32_t>(values[i]) & 0x7fffffff);
        const float largest = as<float>(bits), inverse = largest > 0 ? 127 / largest : 0;
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

  // A whole group is a loop of known length: only such a loop is vectorised.
  template <typename Work> static void each(int size, const Work& work) {
    if (size == GROUP)
      for (int i = 0; i < GROUP; i++) work(i);
    else
      for (int i = 0; i < size; i++) work(i);
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
    __builtin_prefetch(scale + AHEAD / (GROUP * BITS / 8));  // as many groups ahead as codes, 16 scales each
    for (int r = 0; r < COUNT; r++) {
      even[r] = Ints{} - OFFSET<BITS> * sums[r * count + group];
      odd[r] = Ints{};
    }
#pragma GCC unroll 8
    for (int input = 0; input < GROUP; input += 8) {
      __builtin_prefetch(codes + AHEAD);
      if (BITS == 8) __builtin_prefetch(codes + AHEAD + 64);
      Ints first = load<Ints>(codes), second;
      if (BITS == 4) {
        second = RAISED ? first & int32_t(0xf0f0f0f0) : (first >> 4) & 0x0f0f0f0f;
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
    if (BITS == 4 && RAISED)
      for (int r = 0; r < COUNT; r++) odd[r] >>= RAISED;
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
  for (; row + 2 <= rows; row += 2) multiply<BITS, 2>(linear, block, x, row, outputs + row);
  for (; row < rows; row++) multiply<BITS, 1>(linear, block, x, row, outputs + row);
}

void multiply_block(const Linear& linear, int block, const Rounded& x, int rows, Floats* outputs) {
  if (linear.bits == 4)
    multiply_rows<4>(linear, block, x, rows, outputs);
  else
    multiply_rows<8>(linear, block, x, rows, outputs);
}

}  // namespace
