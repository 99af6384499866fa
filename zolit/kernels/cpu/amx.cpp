// Products of int8 codes on the tiles of x86 processors (AMX), scaled to floats as they are made.
//
// A tile is 16 rows of 64 bytes. The first factor is read as it lies. AMX wants the second with
// four neighbouring input channels of 16 outputs in one row: 16 x 16 words of four bytes,
// transposed, once for each block of outputs. Sums leave the tiles for a buffer of 4 KB, where
// they meet their scales; no int32 result is stored.

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int64_t kTile = 16;          // rows of a tile, and outputs of its result
constexpr int64_t kDepth = 64;         // input channels of a tile
constexpr int64_t kBlock = 2 * kTile;  // results are made in blocks of two by two tiles

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

void set_tile_shapes() {
  TileShapes shapes;
  for (int tile = 0; tile < 8; ++tile) {
    shapes.row_bytes[tile] = kDepth;
    shapes.rows[tile] = kTile;
  }
  _tile_loadconfig(&shapes);
}

// Transposes 16 x 16 words of four bytes: pairs, then fours, then quarters of the registers.
void transpose_words(const int8_t* from, int64_t stride, int8_t* to) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + i * stride);
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    b[i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88);
    b[4 + i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
    b[8 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
    b[12 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    _mm512_store_si512(to + i * kDepth, _mm512_shuffle_i32x4(b[i], b[8 + i], 0x88));
    _mm512_store_si512(to + (8 + i) * kDepth, _mm512_shuffle_i32x4(b[i], b[8 + i], 0xdd));
  }
}

void store(float* out, __m512 value) { _mm512_storeu_ps(out, value); }

// To bfloat16, to nearest even, as torch rounds; not by the processor's conversion, which takes
// subnormal numbers for zero.
void store(uint16_t* out, __m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  const __m512i words = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(words));
}

__m512 scaled(const int32_t* sums, __m512 row_scale, __m512 column_scale) {
  const __m512 value = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
  return _mm512_mul_ps(_mm512_mul_ps(value, row_scale), column_scale);
}

// kBlock x kBlock sums of products over all input channels.
void multiply_block(const int8_t* x, const int8_t* packed, int64_t columns, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t c = 0; c < columns; c += kDepth) {
    _tile_loadd(4, x + c, columns);
    _tile_loadd(6, packed + c * kBlock, kDepth);
    _tile_loadd(5, x + kTile * columns + c, columns);
    _tile_loadd(7, packed + c * kBlock + kTile * kDepth, kDepth);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  constexpr int64_t row_bytes = kBlock * sizeof(int32_t);
  _tile_stored(0, sums, row_bytes);
  _tile_stored(1, sums + kTile, row_bytes);
  _tile_stored(2, sums + kTile * kBlock, row_bytes);
  _tile_stored(3, sums + kTile * kBlock + kTile, row_bytes);
}

// out[m][n] = row_scale[m] * column_scale[n] * sum over k of x[m][k] * weight[n][k].
// At least kBlock tokens and outputs, columns a multiple of kDepth. The last blocks overlap the
// ones before them: two threads may write the same values to the same place.
template <typename Float>
void multiply(const int8_t* x, const float* row_scale, const int8_t* weight, int64_t weight_stride,
              const float* column_scale, Float* out, int64_t out_stride, int64_t tokens,
              int64_t outputs, int64_t columns) {
#pragma omp parallel
  {
    set_tile_shapes();
    alignas(64) int32_t sums[kBlock * kBlock];
    int8_t* packed = static_cast<int8_t*>(_mm_malloc(kBlock * columns, 64));
#pragma omp for
    for (int64_t block = 0; block < (outputs + kBlock - 1) / kBlock; ++block) {
      const int64_t n = (block + 1) * kBlock <= outputs ? block * kBlock : outputs - kBlock;
      for (int64_t c = 0; c < columns; c += kDepth) {
        const int8_t* from = weight + n * weight_stride + c;
        transpose_words(from, weight_stride, packed + c * kBlock);
        transpose_words(from + kTile * weight_stride, weight_stride,
                        packed + c * kBlock + kTile * kDepth);
      }
      const __m512 left = _mm512_loadu_ps(column_scale + n);
      const __m512 right = _mm512_loadu_ps(column_scale + n + kTile);
      for (int64_t start = 0; start < tokens; start += kBlock) {
        const int64_t m = start + kBlock <= tokens ? start : tokens - kBlock;
        multiply_block(x + m * columns, packed, columns, sums);
        for (int64_t i = 0; i < kBlock; ++i) {
          const __m512 row = _mm512_set1_ps(row_scale[m + i]);
          Float* to = out + (m + i) * out_stride + n;
          store(to, scaled(sums + i * kBlock, row, left));
          store(to + kTile, scaled(sums + i * kBlock + kTile, row, right));
        }
      }
    }
    _mm_free(packed);
    _tile_release();
  }
}

}  // namespace

extern "C" void to_bfloat16(const int8_t* x, const float* row_scale, const int8_t* weight,
                            int64_t weight_stride, const float* column_scale, uint16_t* out,
                            int64_t out_stride, int64_t tokens, int64_t outputs,
                            int64_t columns) {
  multiply(x, row_scale, weight, weight_stride, column_scale, out, out_stride, tokens, outputs,
           columns);
}

extern "C" void to_float32(const int8_t* x, const float* row_scale, const int8_t* weight,
                           int64_t weight_stride, const float* column_scale, float* out,
                           int64_t out_stride, int64_t tokens, int64_t outputs, int64_t columns) {
  multiply(x, row_scale, weight, weight_stride, column_scale, out, out_stride, tokens, outputs,
           columns);
}
